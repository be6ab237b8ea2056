"""``learner.clone_from``: a policy imitates demonstrations before it learns by itself.

Behaviour cloning: the log-likelihood of the demonstrated actions is maximised (Pomerleau 1991,
"Efficient training of artificial neural networks for autonomous navigation"). The exploration
noise of continuous actions does not change: the training begins with it. Learners with a critic
that rates single actions do not have it: an untrained critic would undo the imitation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError
from drillyard.learners.demonstrations import FIELD, Demonstrations, read
from drillyard.learners.types import Space
from drillyard.runs.workload import StopSignal
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.engines import SBX
from drillyard.spec.learning import CloneSpec, LearnerSpec, SimulatorSpec

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

ABLE = ("ppo", "a2c", "trpo")
"""Learners with a distribution of actions, without a memory and masks."""


def check(
    learner: LearnerSpec, simulator: SimulatorSpec, observation: Space, action: Space
) -> str:
    """Refuse what cannot be imitated, before anything runs.

    Args:
        learner: A learner with ``clone_from``.
        simulator: The simulator.
        observation: Space of one copy, with its wrappers.
        action: Its action space.

    Returns:
        A summary for people.

    Raises:
        ConfigError: Another learner, stacked frames, or no such file.
        SpaceMismatch: Demonstrations of another simulator.
    """
    assert learner.clone_from is not None
    if learner.algorithm not in ABLE or learner.engine == SBX:
        raise ConfigError(
            f"is not offered with {learner.algorithm}"
            + (f" by {learner.engine}" if learner.engine == SBX else ""),
            field="learner.clone_from",
            value=learner.clone_from.trajectories,
            allowed=", ".join(ABLE),
            hint=f"write algorithm: {ABLE[0]}, or delete `clone_from:`",
        )
    stacked = "frame_stack" in [w.name for w in simulator.wrappers]
    if stacked or observation.shape is None or len(observation.shape) != 1:
        raise ConfigError(
            "is offered for flat observations without stacked frames",
            field="learner.clone_from",
            value=str(observation),
            allowed="a Box of one dimension",
            hint="wrap the simulator (flatten_observation, history), and record with it",
        )
    recorded = demonstrations(learner.clone_from)
    recorded.must_fit(observation, action)
    episodes = len(np.unique(recorded.episodes))
    return f"{len(recorded.actions):,} steps of {episodes} episodes are imitated first"


def demonstrations(spec: CloneSpec) -> Demonstrations:
    """Find and read the file, which travels with the user's code.

    Raises:
        ConfigError: There is no such file, or it does not hold demonstrations.
    """
    file = Path(spec.trajectories)
    # Beside the experiment: workers have only that folder, and no other one of this machine.
    places = [file] if file.is_absolute() else [Path(p) / file for p in sys.path if p]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        raise ConfigError(
            "there is no such file",
            field=FIELD,
            value=spec.trajectories,
            allowed="a file beside the experiment's",
            hint="`drillyard record` writes one; put it beside the experiment",
        )
    return read(path)


def apply(spec: CloneSpec, model: OnPolicyAlgorithm, stop: StopSignal) -> JsonObject:
    """Train a model that has not learned yet to imitate the demonstrations.

    Args:
        spec: ``learner.clone_from``.
        model: The SB3 algorithm, one of ``ABLE``.
        stop: Checked in every epoch.

    Returns:
        ``steps`` (of the demonstrations), ``loss_before`` and ``loss`` (mean negative
        log-likelihood of an action), for the summary.
    """
    recorded, policy = demonstrations(spec), model.policy
    observations = recorded.observations.astype(model.observation_space.dtype)
    normalize = model.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs:
        normalize.obs_rms.update(observations)
        observations = normalize.normalize_obs(observations)
    inputs = policy.obs_to_tensor(np.asarray(observations))[0]
    actions = torch.as_tensor(
        recorded.actions.astype(model.action_space.dtype).reshape(-1, *model.action_space.shape),
        device=model.device,
    )
    learned = [p for name, p in policy.named_parameters() if name != "log_std"]
    optimiser = torch.optim.Adam(learned, lr=spec.learning_rate)

    def loss(rows: torch.Tensor | slice) -> torch.Tensor:
        _, likelihood, _ = policy.evaluate_actions(inputs[rows], actions[rows])
        return torch.as_tensor(-likelihood.mean())

    policy.set_training_mode(True)
    with torch.no_grad():
        before = float(loss(slice(None)))
    for _ in range(spec.epochs):
        stop.check()
        for rows in torch.split(torch.randperm(len(actions)), spec.batch_size):
            optimiser.zero_grad()
            torch.autograd.backward(loss(rows))
            torch.nn.utils.clip_grad_norm_(learned, _max_norm(model))
            optimiser.step()
    policy.set_training_mode(False)
    with torch.no_grad():
        after = float(loss(slice(None)))
    return {"steps": len(actions), "loss_before": before, "loss": after}


def _max_norm(model: OnPolicyAlgorithm) -> float:
    """The maximum norm of a gradient."""
    return float(getattr(model, "max_grad_norm", ARGUMENTS["ppo"]["max_grad_norm"]))
