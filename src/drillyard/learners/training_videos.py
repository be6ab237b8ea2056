"""Videos while training: every so many episodes, an episode of the policy as it is then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from drillyard.agents.base import LoadedPolicy
from drillyard.evaluation.episodes import plan
from drillyard.evaluation.video_episodes import FOLDER, EpisodeRecorder, Videos
from drillyard.learners.barriers import next_multiple, preserved_randomness
from drillyard.mailbox.records import FileEntry
from drillyard.runs.phases import RunContext
from drillyard.simulators.vec_state import normalisation


class TrainingVideos(BaseCallback):  # type: ignore[misc]
    """Videos in a simulator of its own, so that the training goes on as if nobody had looked.

    Each film is written at once: somebody may look while the training goes on.

    Args:
        context: The run.
        every: Training episodes between two films.
        rebuilt: From a network to what plays with it.
    """

    def __init__(self, context: RunContext, every: int, rebuilt: Any) -> None:
        super().__init__()
        self._context, self._every, self._rebuilt = context, every, rebuilt
        self._episodes, self._next = 0, every
        self._studio: EpisodeRecorder | None = None
        self.entries: dict[str, FileEntry] = {}
        self.problems: list[str] = []

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "episodes": self._episodes,
            "next": self._next,
            "problems": list(self.problems),
            "entries": {n: e.model_dump() for n, e in self.entries.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; films of another run stay that run's."""
        self._episodes, self._next = int(state["episodes"]), int(state["next"])
        self.problems = list(state["problems"])
        found = {n: FileEntry.model_validate(e) for n, e in state["entries"].items()}
        own = f"runs/{self._context.run.run}/"
        self.entries = {n: e for n, e in found.items() if e.key.startswith(own)}

    def _on_rollout_start(self) -> None:
        if self._episodes < self._next:
            return
        self._next = next_multiple(self._episodes, self._every)
        step, made = int(self.model.num_timesteps), Videos()
        made.add(f"step {step:,}", lambda: self._film(step))
        self.entries |= {n: self._context.save(n, data) for n, data in made.files.items()}
        self.problems += made.problems

    def _film(self, step: int) -> dict[str, bytes]:
        spec = self._context.spec
        assert spec.simulator is not None
        with preserved_randomness():
            if self._studio is None:
                self._studio = EpisodeRecorder(spec.simulator, spec.evaluate.deterministic)
            statistics = normalisation(self.training_env)
            policy = LoadedPolicy(self._rebuilt(self.model.policy), statistics, f"step {step}")
            take = self._studio.take(policy, plan(spec)[0])
        stem = f"step-{step}-episode-{self._episodes}-return-{take.episode_return:.6g}"
        return self._studio.files(f"{FOLDER}/training/{stem}", {"": take})

    def _on_step(self) -> bool:
        self._episodes += int(np.count_nonzero(self.locals["dones"]))
        return True
