"""Early stopping: a training that no longer improves, or is good enough, ends."""

from __future__ import annotations

import math

import numpy as np

from drillyard.learners.types import Infos
from drillyard.simulators.state import State
from drillyard.spec.learning import StopSpec, TrainSpec


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
