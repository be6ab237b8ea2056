"""Copies that are stepped one after the other in this process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv

from drillyard.simulators.state import SavedStack
from drillyard.simulators.streams import SeededCopies
from drillyard.simulators.wrappers import Env, load_stack


class Infos(list[dict[str, Any]]):
    """What ``info`` each copy returned. Its copy has the values themselves that cannot be copied.

    Stable-Baselines3 copies all of them at each step; a lock or a socket among them would end a
    training that never looks at it.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> list[dict[str, Any]]:
        """Returns a copy of everything that can be copied."""
        try:
            return [copy.deepcopy(info) for info in self]
        except Exception:
            return [{key: _copied(value) for key, value in info.items()} for info in self]


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # an object of the simulator's author may raise anything
        return value


class InTurnEnv(SeededCopies, DummyVecEnv):  # type: ignore[misc]
    """Stable-Baselines3's, with the seeds of ``streams``.

    Args:
        makers: Functions that each make one copy.
        streams: Version of the random numbers.
    """

    def __init__(self, makers: list[Callable[[], Env]], streams: int = 1) -> None:
        self.streams = streams
        super().__init__(makers)
        self.buf_infos = Infos({} for _ in makers)

    def load_state(self, copies: list[SavedStack]) -> list[str]:
        """Continues from a state; returns how the replay of each copy differs (``load_stack``)."""
        return [load_stack(*each) for each in zip(self.envs, copies, strict=True)]
