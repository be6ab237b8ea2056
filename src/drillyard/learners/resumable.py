"""What a checkpoint must be before a model is put where it says: readable, and of this world."""

from __future__ import annotations

from typing import Any

from drillyard.agents.packing import TENSORS_NAME, unpack
from drillyard.agents.spaces import space_from_json, space_to_json
from drillyard.documents.json_types import as_object
from drillyard.errors import CorruptObject, SpaceMismatch
from drillyard.learners import sb3_build, sb3_state
from drillyard.runs.checkpoint_files import Problem, examine
from drillyard.runs.checkpoints import Checkpoint, refusal
from drillyard.simulators.make import make_vec
from drillyard.spec import ExperimentSpec


def spaces_of(model: Any) -> dict[str, Any]:
    """The spaces of a model, as JSON, for the manifest of its checkpoints."""
    return {
        "observation": space_to_json(model.observation_space),
        "action": space_to_json(model.action_space),
    }


def must_fit(checkpoint: Checkpoint, spec: ExperimentSpec) -> None:
    """Put a checkpoint into a model of its run, built for this alone and thrown away.

    Args:
        checkpoint: Its hashes are right.
        spec: The experiment as the worker of the run sees it; a built-in learner.

    Raises:
        CheckpointRefused: It is of another network; with tensors and shapes.
        SpaceMismatch: It is of another world; with both spaces.
        ConfigError, SimulatorError: The experiment cannot be built here.
    """
    assert spec.learner is not None and spec.simulator is not None
    # Shapes do not depend on the number of copies, and no seed leaves this process's alone.
    venv = make_vec(spec.simulator, 1, 0)
    try:
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
    finally:
        venv.close()


def copies_of(tree: dict[str, Any]) -> int:
    """Copies of the simulator that the state in a checkpoint is of."""
    return len(tree["model"]["observations"]["starts"])


def tree_of(checkpoint: Checkpoint, model: Any) -> dict[str, Any]:
    """The state in a checkpoint, once it is sure that it may be read.

    Args:
        checkpoint: Its hashes are right.
        model: What will be put there.

    Raises:
        CheckpointRefused: It holds what drillyard does not write.
        SpaceMismatch: It is of another world.
    """
    for name, problem in examine(checkpoint.files):
        raise refusal(checkpoint.meta, name, problem)
    _same_spaces(checkpoint, model)
    try:
        tree: dict[str, Any] = unpack(checkpoint.files)
    except CorruptObject as error:
        problem = Problem(str(error), "what drillyard writes")
        raise refusal(checkpoint.meta, TENSORS_NAME, problem) from error
    return tree


def restore(
    checkpoint: Checkpoint, model: Any, tree: dict[str, Any], *, observations: bool
) -> None:
    """``sb3_state.restore``; a state of other shapes is refused, and not tried again.

    Args:
        checkpoint: Where the state is from.
        model: What is put there.
        tree: Of ``tree_of``.
        observations: False where the simulators are reset instead.

    Raises:
        CheckpointRefused: The state is that of another model; with tensors and shapes.
    """
    try:
        sb3_state.restore(model, tree["model"], observations=observations)
    except CorruptObject as error:
        problem = Problem(str(error), "the tensors of this learner, in their shapes")
        raise refusal(checkpoint.meta, TENSORS_NAME, problem) from error


def _same_spaces(checkpoint: Checkpoint, model: Any) -> None:
    """Older checkpoints did not say which spaces they are of."""
    recorded = as_object(checkpoint.meta.info.get("spaces"))
    for what, now in spaces_of(model).items():
        if recorded.get(what, now) != now:
            then, today = space_from_json(as_object(recorded[what])), space_from_json(now)
            raise SpaceMismatch(
                f"the checkpoint of {checkpoint.meta.run} was made with the {what} space {then}, "
                f"and the simulator has {today} now",
                field="simulator.id",
                allowed=str(then),
                hint="bring the simulator back as it was, or choose a new name (--set name=…)",
            )
