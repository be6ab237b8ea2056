"""Videos while training: every n episodes, one episode of the current policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from drillyard.agents.base import LoadedPolicy
from drillyard.evaluation.episodes import plan
from drillyard.evaluation.video_episodes import FOLDER, EpisodeRecorder, Videos
from drillyard.learners.barriers import next_multiple, preserved_randomness
from drillyard.mailbox.records import FileEntry
from drillyard.runs.workload import RunContext
from drillyard.simulators.state import State
from drillyard.simulators.vec_state import normalisation

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy

    from drillyard.learners.sb3 import Rebuilt


class TrainingVideos(BaseCallback):  # type: ignore[misc]
    """Records videos in a separate simulator, so that they do not affect the training.

    Each video is written immediately, so that you can watch it while the training continues.

    Args:
        context: The run.
        every: Training episodes between two videos.
        rebuilt: Turns a network into a policy that plays.
    """

    def __init__(
        self, context: RunContext, every: int, rebuilt: Callable[[BasePolicy], Rebuilt]
    ) -> None:
        super().__init__()
        self._context, self._every, self._rebuilt = context, every, rebuilt
        self._episodes, self._next = 0, every
        self._recorder: EpisodeRecorder | None = None
        self.entries: dict[str, FileEntry] = {}
        self.problems: list[str] = []

    def state(self) -> State:
        """The state for a checkpoint."""
        return {
            "episodes": self._episodes,
            "next": self._next,
            "problems": list(self.problems),
            "entries": {n: e.model_dump() for n, e in self.entries.items()},
        }

    def load_state(self, state: State) -> None:
        """Continue from a checkpoint; the videos of another run belong to that run."""
        self._episodes, self._next = int(state["episodes"]), int(state["next"])
        self.problems = list(state["problems"])
        entries = {n: FileEntry.model_validate(e) for n, e in state["entries"].items()}
        folder = f"runs/{self._context.run.run}/"
        self.entries = {n: e for n, e in entries.items() if e.key.startswith(folder)}

    def _on_rollout_start(self) -> None:
        if self._episodes < self._next:
            return
        self._next = next_multiple(self._episodes, self._every)
        step, videos = int(self.model.num_timesteps), Videos()
        videos.add(f"step {step:,}", lambda: self._record(step))
        self.entries |= {n: self._context.save(n, data) for n, data in videos.files.items()}
        self.problems += videos.problems

    def _record(self, step: int) -> dict[str, bytes]:
        spec = self._context.spec
        assert spec.simulator is not None
        with preserved_randomness():
            if self._recorder is None:
                self._recorder = EpisodeRecorder(spec.simulator, spec.evaluate.deterministic)
            statistics = normalisation(self.training_env)
            policy = LoadedPolicy(self._rebuilt(self.model.policy), statistics, f"step {step}")
            planned = plan(spec, streams=self._context.run.streams)
            take = self._recorder.take(policy, planned[0])
        stem = f"step-{step}-episode-{self._episodes}-return-{take.episode_return:.6g}"
        return self._recorder.files(f"{FOLDER}/training/{stem}", {"": take})

    def _on_step(self) -> bool:
        self._episodes += int(np.count_nonzero(self.locals["dones"]))
        return True
