"""The simulators of Ray's workers, made in their processes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from drillyard.spec.learning import SimulatorSpec


@dataclass
class World:
    """Makes one copy after another; Ray sends it to its workers.

    Attributes:
        spec: The simulator part of an experiment.
        seed: Of the run.
        copies: Of each worker.
        path: Where the user's modules are.
    """

    spec: SimulatorSpec
    seed: int
    copies: int
    path: list[str]
    _made: dict[int, int] = field(default_factory=dict)

    def __call__(self, context: Any) -> Any:
        """A copy, with draws of its own.

        Args:
            context: Ray's: which worker asks.
        """
        from drillyard.simulators.make import make_env

        sys.path.extend(p for p in self.path if p not in sys.path)
        worker = int(getattr(context, "worker_index", 0))
        made = self._made[worker] = self._made.get(worker, -1) + 1
        # A worker's first copies are those of its index; later ones replace them.
        copy = worker * self.copies + made % self.copies
        return make_env(self.spec, copy=copy, seed=self.seed)
