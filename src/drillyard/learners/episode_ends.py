"""The end of each training episode: a line in the streams, metrics, the curriculum."""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from drillyard.learners.types import Infos
from drillyard.metrics.streams import StreamWriter
from drillyard.simulators.state import State
from drillyard.simulators.vec_state import set_lesson
from drillyard.spec.curriculum import CurriculumSpec, RuleSpec
from drillyard.spec.learning import SimulatorSpec, StopSpec, TrainSpec
from drillyard.spec.simulator.lessons import Lesson

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


class EarlyStopping:
    """Judges epochs of training episodes. Part of a checkpoint.

    Args:
        train: The rules are in its ``stop``; without them the training runs to its end.
    """

    def __init__(self, train: TrainSpec | None) -> None:
        self._spec = train.stop if train is not None else None
        self._epoch: list[float] = []
        self._best = -math.inf
        self._without = 0
        self.reason: str | None = None
        """Why the training is over; None while it continues."""

    def record(self, dones: np.ndarray, infos: Infos) -> bool:
        """Record the episodes that ended with a step; True if the training is over.

        Args:
            dones: Which copies ended an episode.
            infos: The infos of all copies.
        """
        spec = self._spec
        for copy in np.flatnonzero(dones) if spec is not None else ():
            end = infos[int(copy)].get("episode")
            if end is not None:
                self._epoch.append(float(end["r"]))
                if spec is not None and len(self._epoch) >= spec.epoch:
                    self._judge(spec)
        return self.reason is not None

    def _judge(self, spec: StopSpec) -> None:
        score = self._epoch[-1] if spec.by == "last" else float(np.mean(self._epoch))
        self._epoch.clear()
        if spec.mean_return is not None and score >= spec.mean_return:
            self.reason = self.reason or "mean_return"
        if score > self._best + spec.min_improvement:
            self._best, self._without = score, 0
            return
        self._without += 1
        if spec.patience is not None and self._without >= spec.patience:
            self.reason = self.reason or "patience"

    def state(self) -> State:
        """The state for a checkpoint."""
        return {
            "epoch": list(self._epoch),
            "best": self._best,
            "without": self._without,
            "reason": self.reason,
        }

    def load_state(self, state: State | None) -> None:
        """Continue from a state; None from a checkpoint that is older than early stopping."""
        if state is None:
            return
        self._epoch, self._best = list(state["epoch"]), float(state["best"])
        self._without, self.reason = int(state["without"]), state["reason"]


class Curriculum:
    """Counts the episodes of a stage, and decides when the stage changes. Part of a checkpoint.

    Args:
        spec: The stages.
    """

    def __init__(self, spec: CurriculumSpec) -> None:
        self._stages = spec.stages
        self.stage = 0
        longest = max(r.episodes for s in spec.stages for r in (s.promote, s.demote) if r)
        self._ended: deque[list[float]] = deque(maxlen=longest)
        self._since = 0

    def lesson(self, base: Lesson) -> Lesson:
        """The simulator's lesson with the changes of the stage."""
        return {**base, **self._stages[self.stage].lesson}

    def record(self, step: int, episode_return: float, success: bool) -> bool:
        """Record that an episode ended; True if the stage changed.

        Args:
            step: Environment steps so far.
            episode_return: The sum of the agent's rewards.
            success: ``info["is_success"]`` of its last step.
        """
        self._ended.append([episode_return, float(success)])
        now = self._stages[self.stage]
        if now.promote is not None and self._met(now.promote, step, up=True):
            return self._go(self.stage + 1, step)
        if now.demote is not None and self._met(now.demote, step, up=False):
            return self._go(self.stage - 1, step)
        return False

    def _met(self, rule: RuleSpec, step: int, up: bool) -> bool:
        if rule.steps is not None:
            return step - self._since >= rule.steps
        if len(self._ended) < rule.episodes:
            return False
        last = np.array(self._ended)[-rule.episodes :].mean(axis=0)
        score, limit = (
            (last[0], rule.mean_return)
            if rule.success_rate is None
            else (last[1], rule.success_rate)
        )
        assert limit is not None  # a rule has one of the three
        return bool(score >= limit if up else score <= limit)

    def _go(self, stage: int, step: int) -> bool:
        self.stage, self._since = stage, step
        self._ended.clear()  # a stage is judged by its own episodes
        return True

    def state(self) -> State:
        """The stage, its first step and its last episodes."""
        return {"stage": self.stage, "since": self._since, "ended": [list(e) for e in self._ended]}

    def load_state(self, state: State) -> None:
        """Continue from a state."""
        self.stage, self._since = int(state["stage"]), int(state["since"])
        self._ended.clear()
        self._ended.extend([float(r), float(s)] for r, s in state["ended"])


log = logging.getLogger(__name__)


class EpisodeEnds:
    """Records the episodes that end. Its state is part of a checkpoint.

    Args:
        simulator: The simulator with its ``curriculum`` and lesson.
        venv: The copies that train.
        writer: The run's streams.
    """

    def __init__(self, simulator: SimulatorSpec, venv: VecEnv, writer: StreamWriter) -> None:
        self._venv, self._writer, self._lesson = venv, writer, simulator.lesson
        self._curriculum = (
            Curriculum(simulator.curriculum) if simulator.curriculum is not None else None
        )
        self._metrics: dict[str, list[float]] = {}
        self.restarts = 0
        """Number of times that the process of an external simulator was lost."""

    def take(self, step: int, dones: np.ndarray, infos: Infos) -> int:
        """Write a line for each episode that ended, and return the number of such episodes.

        Args:
            step: Environment steps so far.
            dones: Which copies ended an episode.
            infos: The infos of all copies.
        """
        ended = np.flatnonzero(dones)
        for copy in map(int, ended):
            info = infos[copy]
            end = info.get("episode")
            if end is None:
                continue
            metrics = {name: float(value) for name, value in info.get("metrics", {}).items()}
            self.restarts += int(info.get("kpi_restarts", 0))
            drawn = info.get("lesson")
            self._writer.append(
                "episodes",
                step,
                {"return": float(end["r"]), "length": int(end["l"]), "env": copy, **metrics},
                **({"lesson": drawn} if drawn else {}),
            )
            if "log" in info:
                self._writer.append("steps", step, {"env": copy}, log=info["log"])
            for name, value in metrics.items():
                self._metrics.setdefault(name, []).append(value)
            self._judge(step, float(end["r"]), bool(info.get("is_success", False)))
        return len(ended)

    def point(self) -> dict[str, float]:
        """Metrics for a point of the training curve: means over the episodes since the last."""
        metrics = {f"rollout/{name}": float(np.mean(v)) for name, v in self._metrics.items()}
        self._metrics.clear()
        if self.restarts:
            metrics["simulator/restarts"] = self.restarts
        if self._curriculum is not None:
            metrics["curriculum/stage"] = self._curriculum.stage
        return metrics

    def _judge(self, step: int, episode_return: float, success: bool) -> None:
        curriculum = self._curriculum
        if curriculum is None:
            return
        before = curriculum.stage
        if curriculum.record(step, episode_return, success):
            log.info("curriculum: stage %d -> %d at step %d", before, curriculum.stage, step)
            set_lesson(self._venv, curriculum.lesson(self._lesson))

    def state(self) -> State:
        """The state of the curriculum, and the metrics since the last point."""
        curriculum = None if self._curriculum is None else self._curriculum.state()
        return {
            "curriculum": curriculum,
            "metrics": {n: list(v) for n, v in self._metrics.items()},
            "restarts": self.restarts,
        }

    def load_state(self, state: State) -> None:
        """Continue from a state; the copies get the lesson of its stage."""
        self._metrics = {name: list(values) for name, values in state["metrics"].items()}
        self.restarts = int(state.get("restarts", 0))
        if self._curriculum is not None and state["curriculum"] is not None:
            self._curriculum.load_state(state["curriculum"])
            set_lesson(self._venv, self._curriculum.lesson(self._lesson))
