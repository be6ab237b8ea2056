"""The simulators of Ray's workers, built in the processes of the workers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drillyard.learners.types import Env, Info, Layer, Observation
from drillyard.simulators.streams import copy_seed
from drillyard.spec.learning import SimulatorSpec

if TYPE_CHECKING:
    from ray.rllib.env.env_context import EnvContext


@dataclass
class World:
    """Builds the copies of a simulator; Ray sends it to its workers.

    Attributes:
        spec: The simulator part of an experiment.
        seed: The seed of the run.
        copies: Number of copies of each worker.
        path: Folders with the user's modules.
        streams: Version of the random numbers, see ``drillyard.simulators.streams``.
    """

    spec: SimulatorSpec
    seed: int
    copies: int
    path: list[str]
    streams: int = 1
    _made: dict[int, int] = field(default_factory=dict)

    def __call__(self, context: EnvContext) -> Env:
        """Builds a copy with its own random numbers.

        Args:
            context: Ray's context, which identifies the worker.
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
        # The replacement of a copy does not repeat its episodes.
        return _Seeded(env, self.seed, [copy, made // self.copies], self.streams)


class _Seeded(Layer):
    """Replaces the seed of a reset.

    Ray resets copy ``i`` of worker ``w`` with seed + w + i, so that workers would share numbers.
    """

    def __init__(self, env: Env, seed: int, place: list[int], streams: int) -> None:
        super().__init__(env)
        self._own = copy_seed(seed, place[0], streams, place[1])

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[Observation, Info]:
        return self.env.reset(seed=None if seed is None else self._own, options=options)
