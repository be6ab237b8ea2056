"""Checks that a checkpoint is readable and fits the simulator, and restores a model from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drillyard.agents.packing import TENSORS_NAME, unpack
from drillyard.agents.spaces import space_from_json, space_to_json
from drillyard.documents.json_types import JsonObject, as_object
from drillyard.documents.space_text import space_text
from drillyard.errors import CorruptObject, SpaceMismatch
from drillyard.learners import sb3_build, sb3_state
from drillyard.runs.checkpoint_formats import Problem, examine
from drillyard.runs.checkpoints import Checkpoint, refusal
from drillyard.simulators.make_copies import make_vec
from drillyard.spec import ExperimentSpec

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from drillyard.learners.types import TrainingState


def spaces_of(model: BaseAlgorithm) -> dict[str, JsonObject]:
    """The spaces of a model, as JSON, for the manifest of its checkpoints."""
    return {
        "observation": space_to_json(model.observation_space),
        "action": space_to_json(model.action_space),
    }


def must_fit(checkpoint: Checkpoint, spec: ExperimentSpec) -> None:
    """Restore a model of the run from a checkpoint, only to check that this works.

    Args:
        checkpoint: A checkpoint whose hashes were verified.
        spec: The experiment as the worker of the run sees it, with a built-in learner.

    Raises:
        CheckpointRefused: It belongs to another network; names tensors and shapes.
        SpaceMismatch: It belongs to another simulator; names both spaces.
        ConfigError, SimulatorError: The experiment cannot be built here.
    """
    assert spec.simulator is not None
    # Shapes do not depend on the number of copies.
    venv = make_vec(spec.simulator, 1, 0)
    try:
        restored(checkpoint, spec, venv)
    finally:
        venv.close()


def restored(
    checkpoint: Checkpoint, spec: ExperimentSpec, venv: VecEnv
) -> tuple[BaseAlgorithm, TrainingState]:
    """A model with the state of a checkpoint, on new simulators.

    Args:
        checkpoint: A checkpoint whose hashes were verified.
        spec: The experiment as the worker of the run sees it, with a built-in learner.
        venv: The simulators.

    Returns:
        The model, and everything that the checkpoint holds.

    Raises:
        CheckpointRefused: It belongs to another network; names tensors and shapes.
        SpaceMismatch: It belongs to another simulator; names both spaces.
    """
    assert spec.learner is not None
    # No seed: this process keeps its random numbers.
    model = sb3_build.build(
        spec.learner.algorithm,
        spec.learner.policy,
        spec.learner.args,
        venv,
        None,
        "cpu",
        spec.learner.engine,
    )
    tree = tree_of(checkpoint, model)
    model._setup_learn(1)
    restore(checkpoint, model, tree, observations=False)
    return model, tree


def copies_of(tree: TrainingState) -> int:
    """The number of copies of the simulator whose state is in a checkpoint."""
    return len(tree["model"]["observations"]["starts"])


def tree_of(checkpoint: Checkpoint, model: BaseAlgorithm) -> TrainingState:
    """Reads the state in a checkpoint, after checking that it is safe to read.

    Args:
        checkpoint: A checkpoint whose hashes were verified.
        model: The model that will be restored.

    Raises:
        CheckpointRefused: It holds something that drillyard does not write.
        SpaceMismatch: It belongs to another simulator.
    """
    for name, problem in examine(checkpoint.files):
        raise refusal(checkpoint.meta, name, problem)
    _same_spaces(checkpoint, model)
    try:
        tree: TrainingState = unpack(checkpoint.files)
    except CorruptObject as error:
        problem = Problem(str(error), "what drillyard writes")
        raise refusal(checkpoint.meta, TENSORS_NAME, problem) from error
    return tree


def restore(
    checkpoint: Checkpoint, model: BaseAlgorithm, tree: TrainingState, *, observations: bool
) -> None:
    """``sb3_state.restore``, but a state of other shapes is refused, and not tried again.

    Args:
        checkpoint: The checkpoint with the state.
        model: The model to restore.
        tree: The state, from ``tree_of``.
        observations: False where the simulators are reset instead.

    Raises:
        CheckpointRefused: The state belongs to another model; names tensors and shapes.
    """
    try:
        sb3_state.restore(model, tree["model"], observations=observations)
    except CorruptObject as error:
        problem = Problem(str(error), "the tensors of this learner, in their shapes")
        raise refusal(checkpoint.meta, TENSORS_NAME, problem) from error


def _same_spaces(checkpoint: Checkpoint, model: BaseAlgorithm) -> None:
    """Refuse other spaces. Older checkpoints did not record their spaces."""
    recorded = as_object(checkpoint.meta.info.get("spaces"))
    for what, now in spaces_of(model).items():
        if recorded.get(what, now) != now:
            given = (as_object(recorded[what]), now)
            then, today = (space_text(space_from_json(space)) for space in given)
            raise SpaceMismatch(
                f"the checkpoint of {checkpoint.meta.run} was written with the {what} space "
                f"{then}, and the simulator has {today} now",
                field="simulator.id",
                allowed=then,
                hint="restore the earlier simulator, or choose a new name (--set name=…)",
            )
