"""Plays an episode with the policy of a run's newest checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drillyard.errors import NotFound, UserError
from drillyard.learners import resumable
from drillyard.mailbox import Mailbox
from drillyard.runs import checkpoints
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.streams import copy_seed
from drillyard.simulators.vec_state import freeze_normalisation, load_normalisation
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.system.user_code import described


@dataclass
class PlayedByCheckpoint:
    """An episode of the policy of a checkpoint."""

    checkpoint: int
    """Step of the checkpoint."""
    seed: int
    """Seed of the simulator."""
    rewards: list[float] = field(default_factory=list)
    error: str = ""


def play(
    mailbox: Mailbox, run: str, spec: ExperimentSpec, copy: int, to: int | None
) -> PlayedByCheckpoint:
    """Play the first episode of a copy with the policy of the newest checkpoint.

    Args:
        mailbox: The experiment.
        run: Its run.
        spec: The experiment as the run saw it.
        copy: Index of the copy.
        to: The last step; None: the end of the episode.

    Raises:
        NotFound: The run has no checkpoint.
        UserError: Its learner has no checkpoint that can be played.
    """
    if spec.learner is None or spec.simulator is None or spec.learner.algorithm not in ARGUMENTS:
        raise UserError(
            f"no episode of {mailbox.experiment}/{run} is recorded, and its learner has no "
            "checkpoint that drillyard can play",
            hint="built-in algorithms have one; `drillyard logs` shows what the run printed",
        )
    checkpoint = checkpoints.latest(mailbox, run)
    if checkpoint is None:
        raise NotFound(
            f"no episode of {mailbox.experiment}/{run} is recorded, and it has no checkpoint "
            "whose policy could play one",
            hint="`drillyard check FILE` steps the simulator and shows where it breaks",
        )
    record = mailbox.run(run)
    seed = copy_seed(record.seed, copy, record.streams)
    venv: Any = make_vec(spec.simulator, 1, seed)
    try:
        model, tree = resumable.restored(checkpoint, spec, venv)
        if tree["normalisation"] is not None:
            load_normalisation(venv, tree["normalisation"])
        freeze_normalisation(venv)
        return _play(model, venv, PlayedByCheckpoint(checkpoint.meta.step, seed), to)
    finally:
        venv.close()


def _play(model: Any, venv: Any, played: PlayedByCheckpoint, to: int | None) -> PlayedByCheckpoint:
    memory, starts = None, np.ones((1,), dtype=bool)
    try:
        observation = venv.reset()
        while to is None or len(played.rewards) < to:
            action, memory = model.predict(observation, state=memory, episode_start=starts)
            observation, rewards, starts, _ = venv.step(action)
            played.rewards.append(float(rewards[0]))
            if starts[0]:
                break
    except (Exception, SystemExit) as error:
        played.error = described(error)
    return played
