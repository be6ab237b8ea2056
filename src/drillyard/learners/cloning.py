"""``learner.clone_from``: a policy imitates demonstrations before it learns by itself.

Behaviour cloning: the log-likelihood of the demonstrated actions is maximised (Pomerleau 1991,
"Efficient training of artificial neural networks for autonomous navigation"). The exploration
noise of continuous actions is left as it is: learning by oneself begins with it. For learners
with a critic that rates single actions it is not offered: an untrained critic would undo it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drillyard.errors import ConfigError
from drillyard.learners.demonstrations import FIELD, Demonstrations, read
from drillyard.runs.phases import StopSignal
from drillyard.spec.algorithms.engines import SBX
from drillyard.spec.algorithms.signatures import ARGUMENTS
from drillyard.spec.learning import CloneSpec, LearnerSpec, SimulatorSpec

ABLE = ("ppo", "a2c", "trpo")
"""Learners with a distribution of actions, without a memory and masks."""


def check(learner: LearnerSpec, simulator: SimulatorSpec, observation: Any, action: Any) -> str:
    """Refuse what cannot be imitated, before anything runs.

    Args:
        learner: Its ``clone_from`` is given.
        simulator: The world.
        observation: Space of one copy, with its wrappers.
        action: Its action space.

    Returns:
        What was found, for people.

    Raises:
        ConfigError: Another learner, stacked frames, or no such file.
        SpaceMismatch: Demonstrations of another world.
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
    if stacked or getattr(observation, "shape", None) is None or len(observation.shape) != 1:
        raise ConfigError(
            "is offered for flat observations without stacked frames",
            field="learner.clone_from",
            value=str(observation),
            allowed="a Box of one dimension",
            hint="wrap the simulator (flatten_observation, history), and record with it",
        )
    found = demonstrations(learner.clone_from)
    found.must_fit(observation, action)
    episodes = len(np.unique(found.episodes))
    return f"{len(found.actions):,} steps of {episodes} episodes are imitated first"


def demonstrations(spec: CloneSpec) -> Demonstrations:
    """Find and read the file, which travels with the user's code.

    Raises:
        ConfigError: It is not there, or no such file.
    """
    given = Path(spec.trajectories)
    # Beside the experiment: workers have it there, and no other folder of this machine.
    places = [given] if given.is_absolute() else [Path(p) / given for p in sys.path if p]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        raise ConfigError(
            "there is no such file",
            field=FIELD,
            value=spec.trajectories,
            allowed="a file beside the experiment's",
            hint="`drillyard record` makes one; lay it beside the experiment",
        )
    return read(path)


def apply(spec: CloneSpec, model: Any, stop: StopSignal) -> dict[str, Any]:
    """Teach a model that has learned nothing yet.

    Args:
        spec: ``learner.clone_from``.
        model: The SB3 algorithm, one of ``ABLE``.
        stop: Looked at in every epoch.

    Returns:
        ``steps`` (of the demonstrations), ``loss_before`` and ``loss`` (mean negative
        log-likelihood of an action), for the summary.
    """
    found, policy = demonstrations(spec), model.policy
    observations = found.observations.astype(model.observation_space.dtype)
    normalize = model.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs:
        normalize.obs_rms.update(observations)
        observations = normalize.normalize_obs(observations)
    seen = policy.obs_to_tensor(np.asarray(observations))[0]
    done = torch.as_tensor(
        found.actions.astype(model.action_space.dtype).reshape(-1, *model.action_space.shape),
        device=model.device,
    )
    learned = [p for name, p in policy.named_parameters() if name != "log_std"]
    optimiser = torch.optim.Adam(learned, lr=spec.learning_rate)

    def loss(rows: Any) -> torch.Tensor:
        _, likelihood, _ = policy.evaluate_actions(seen[rows], done[rows])
        return torch.as_tensor(-likelihood.mean())

    policy.set_training_mode(True)
    with torch.no_grad():
        before = float(loss(slice(None)))
    for _ in range(spec.epochs):
        stop.check()
        for rows in torch.split(torch.randperm(len(done)), spec.batch_size):
            optimiser.zero_grad()
            torch.autograd.backward(loss(rows))
            torch.nn.utils.clip_grad_norm_(learned, _most(model))
            optimiser.step()
    policy.set_training_mode(False)
    with torch.no_grad():
        after = float(loss(slice(None)))
    return {"steps": len(done), "loss_before": before, "loss": after}


def _most(model: Any) -> float:
    """Norm of a gradient, at most."""
    return float(getattr(model, "max_grad_norm", ARGUMENTS["ppo"]["max_grad_norm"]))
