"""Worlds with every kind of space, legal and not, and worlds with faults of their own."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

_FLAT = spaces.Box(-1.0, 1.0, (3,), np.float32)


def _image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "flat": _FLAT,
    "scalar": spaces.Box(-1.0, 1.0, (), np.float32),
    "empty": spaces.Box(-1.0, 1.0, (0,), np.float32),
    "unbounded": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "float64": spaces.Box(-1.0, 1.0, (2, 3, 2, 2), np.float64),
    "integers": spaces.Box(-5, 5, (4,), np.int64),
    "huge": spaces.Box(-1.0, 1.0, (1_000_000,), np.float32),
    "discrete": spaces.Discrete(5),
    "discrete-from-3": spaces.Discrete(4, start=3),
    "discrete-from-minus-2": spaces.Discrete(4, start=-2),
    "multidiscrete": spaces.MultiDiscrete([3, 4]),
    "multidiscrete-from-1": spaces.MultiDiscrete([3, 4], start=[1, 1]),
    "multidiscrete-2d": spaces.MultiDiscrete([[3, 4], [2, 2]]),
    "multibinary": spaces.MultiBinary(4),
    "multibinary-2d": spaces.MultiBinary([2, 3]),
    "tuple": spaces.Tuple((_FLAT, spaces.Discrete(3))),
    "dict": spaces.Dict({"a": _FLAT, "b": spaces.Discrete(3)}),
    "dict-nested": spaces.Dict(
        {"a": _FLAT, "more": spaces.Dict({"b": spaces.Discrete(3), "c": _FLAT})}
    ),
    "dict-of-tuple": spaces.Dict({"a": spaces.Tuple((_FLAT, spaces.MultiBinary([2, 2])))}),
    "dict-with-dots": spaces.Dict({"a.b": _FLAT, "c": spaces.Dict({"d": spaces.Discrete(2)})}),
    "dict-empty": spaces.Dict({}),
    "dict-with-image": spaces.Dict({"view": _image(7, 7, 3), "way": spaces.Discrete(4)}),
    "dict-with-text": spaces.Dict({"seen": _FLAT, "mission": spaces.Text(8)}),
    "text": spaces.Text(8),
    "sequence": spaces.Sequence(_FLAT),
    "graph": spaces.Graph(_FLAT, None),
    "oneof": spaces.OneOf((_FLAT, spaces.Discrete(2))),
    "image-1": _image(1, 1, 3),
    "image-3": _image(3, 3, 3),
    "image-7": _image(7, 7, 3),
    "image-20-wide": _image(8, 40, 1),
    "image-35": _image(35, 35, 3),
    "image-36": _image(36, 36, 3),
    "image-first": _image(3, 7, 7),
    "image-84": _image(84, 84, 4),
    "image-middle": _image(7, 3, 7),
    "image-many": _image(40, 40, 40),
    "image-float": spaces.Box(0.0, 1.0, (7, 7, 3), np.float32),
    "image-to-10": spaces.Box(0, 10, (7, 7, 3), np.uint8),
    "image-grey": _image(7, 7),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "discrete-from-2": spaces.Discrete(3, start=2),
    "one": spaces.Discrete(1),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "box-2d": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    "box-integers": spaces.Box(-3, 3, (2,), np.int64),
    "box-empty": spaces.Box(-1.0, 1.0, (0,), np.float32),
    "box-unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "multidiscrete": spaces.MultiDiscrete([3, 2]),
    "multidiscrete-2d": spaces.MultiDiscrete([[3, 2], [2, 2]]),
    "multibinary": spaces.MultiBinary(3),
    "multibinary-2d": spaces.MultiBinary([2, 2]),
    "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))),
    "dict": spaces.Dict({"a": spaces.Discrete(2)}),
    "text": spaces.Text(3),
}


class World(gym.Env[Any, Any]):
    """Observations by chance; refuses an action that is outside its space.

    Args:
        observation: A key of ``OBSERVATIONS``.
        action: A key of ``ACTIONS``.
        fault: ``raise``, ``exit``, ``crash``, ``hang``, ``nan``, ``print`` or nothing.
        at: Step of the simulator's life at which the fault shows.
        length: Steps of an episode.
    """

    def __init__(
        self,
        observation: str = "flat",
        action: str = "discrete",
        fault: str = "",
        at: int = 3,
        length: int = 10,
    ) -> None:
        self.observation_space = OBSERVATIONS[observation]
        self.action_space = ACTIONS[action]
        self._fault, self._at, self._length = fault, at, length
        self._steps = self._life = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._life += 1
        if isinstance(self.action_space, spaces.Discrete | spaces.MultiDiscrete):
            assert self.action_space.contains(np.asarray(action, np.int64)[()]), action
        if self._fault == "print":
            print("a line of the simulator " + "x" * 1000)
        elif self._fault and self._life >= self._at:
            self._break()
        seen = self._see()
        if self._fault == "far":
            seen = seen * 100.0
        if self._fault == "near" and self._life == self._at:
            seen = np.full_like(seen, 1.5)
        if self._fault == "nan" and self._life >= self._at:
            seen = seen * np.float32(np.nan)
        return seen, 1.0, False, self._steps >= self._length, {}

    def _see(self) -> Any:
        return self.observation_space.sample()

    def _break(self) -> None:
        if self._fault == "raise":
            raise ZeroDivisionError("the pump divides by zero")
        if self._fault == "exit":
            raise SystemExit(7)
        if self._fault == "crash":
            os.abort()
        if self._fault == "hang":
            time.sleep(10_000)


class NoObservationSpace(gym.Env[Any, Any]):
    """Has no ``observation_space``."""

    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, True, False, {}


class NoActionSpace(NoObservationSpace):
    """Has no ``action_space``."""

    observation_space = _FLAT
    action_space = None  # type: ignore[assignment]


def made(length: int = 5) -> World:
    """A function that makes a world."""
    return World(length=length)


def nothing_made() -> int:
    """A function that makes no world."""
    return 3


gym.register("odd/World-v0", f"{__name__}:World", max_episode_steps=20)
