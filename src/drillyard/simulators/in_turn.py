"""Copies that are stepped one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.vec_env import DummyVecEnv

from drillyard.simulators.streams import SeededCopies
from drillyard.simulators.wrappers import Env


class InTurnEnv(SeededCopies, DummyVecEnv):  # type: ignore[misc]
    """Stable-Baselines3's, with the seeds of ``streams``.

    Args:
        makers: Functions that each make one copy.
        streams: Version of the random numbers.
    """

    def __init__(self, makers: list[Callable[[], Env]], streams: int = 1) -> None:
        self.streams = streams
        super().__init__(makers)
