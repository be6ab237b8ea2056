"""Early stopping: a training that no longer improves, or is good enough, ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from drillyard.simulators.state import State
from drillyard.spec.learning import StopSpec, TrainSpec


class EarlyStopping:
    """Looks at epochs of training episodes. Part of a checkpoint.

    Args:
        train: Its ``stop``; None: the training goes on to its end.
    """

    def __init__(self, train: TrainSpec | None) -> None:
        self._spec = train.stop if train is not None else None
        self._epoch: list[float] = []
        self._best = -math.inf
        self._without = 0
        self.reason: str | None = None
        """Why the training is over; None while it goes on."""

    def record(self, dones: Any, infos: Any) -> bool:
        """Take the episodes that ended with a step; True when the training is over.

        Args:
            dones: Which copies ended an episode.
            infos: Of all copies.
        """
        spec = self._spec
        for copy in np.flatnonzero(dones) if spec is not None else ():
            end = infos[copy].get("episode")
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
        """Where it is."""
        return {
            "epoch": list(self._epoch),
            "best": self._best,
            "without": self._without,
            "reason": self.reason,
        }

    def load_state(self, state: State | None) -> None:
        """Go on from a state; None: of a checkpoint that is older than early stopping."""
        if state is None:
            return
        self._epoch, self._best = list(state["epoch"]), float(state["best"])
        self._without, self.reason = int(state["without"]), state["reason"]
