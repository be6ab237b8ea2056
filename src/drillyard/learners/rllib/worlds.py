"""The simulators of Ray's workers, made in their processes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from drillyard.simulators.streams import copy_seed
from drillyard.spec.learning import SimulatorSpec


@dataclass
class World:
    """Makes one copy after another; Ray sends it to its workers.

    Attributes:
        spec: The simulator part of an experiment.
        seed: Of the run.
        copies: Of each worker.
        path: Where the user's modules are.
        streams: Version of the random numbers, see ``drillyard.simulators.streams``.
    """

    spec: SimulatorSpec
    seed: int
    copies: int
    path: list[str]
    streams: int = 1
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
        env = make_env(self.spec, copy=copy, seed=self.seed, streams=self.streams)
        if self.streams < 2:
            return env
        # What replaces a copy does not play its episodes once more.
        return _Seeded(env, self.seed, [copy, made // self.copies], self.streams)


class _Seeded(gym.Wrapper[Any, Any, Any, Any]):
    """Ray resets copy ``i`` of worker ``w`` with seed + w + i: workers would share numbers."""

    def __init__(self, env: Any, seed: int, place: list[int], streams: int) -> None:
        super().__init__(env)
        self._own = copy_seed(seed, place[0], streams, place[1])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=None if seed is None else self._own, options=options)
