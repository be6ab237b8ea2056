"""The end of each training episode: a line in the streams, metrics, the curriculum."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from drillyard.learners.curriculum import Curriculum
from drillyard.learners.types import Infos
from drillyard.metrics.streams import StreamWriter
from drillyard.simulators.state import State
from drillyard.simulators.vec_state import set_lesson
from drillyard.spec.learning import SimulatorSpec

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

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
