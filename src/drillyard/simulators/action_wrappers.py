"""Wrappers that change what the agent does to one copy. They keep nothing between steps."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, SpaceMismatch
from drillyard.simulators.state import Stateless
from drillyard.simulators.types import Action, Env, Observation


class _Stateless(Stateless, gym.ActionWrapper[Observation, Action, Action]):
    """A layer that changes actions."""


class FlattenAction(_Stateless):
    """Dict and Tuple actions as one space that learners have.

    All parts Box of floats: one ``Box (n,)``. All parts of integers (Discrete, MultiDiscrete,
    MultiBinary, bounded Box of integers): one ``MultiDiscrete``. ``action`` is the inverse.

    Args:
        env: With actions ``Dict`` or ``Tuple``.

    Raises:
        SpaceMismatch: Another space, a part that is neither, or both kinds mixed.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Dict | spaces.Tuple):
            raise SpaceMismatch(
                f"flatten_action needs Dict or Tuple actions, not {space_text(space)}",
                hint="delete flatten_action",
            )
        self._keys = list(space) if isinstance(space, spaces.Dict) else None
        parts = list(space.values() if isinstance(space, spaces.Dict) else space)
        self._parts = parts
        floats = [p for p in parts if isinstance(p, spaces.Box) and p.dtype.kind == "f"]
        if len(floats) == len(parts):
            low, high = (
                np.concatenate([getattr(p, end).ravel() for p in parts]) for end in ("low", "high")
            )
            self.action_space = spaces.Box(
                low.astype(np.float32), high.astype(np.float32), dtype=np.float32
            )
            self._starts = None
        elif floats:
            raise SpaceMismatch(
                f"flatten_action does not mix floats and integers: {space_text(space)}",
                hint="make all parts Box, or all of them integers, in the simulator",
            )
        else:
            counts = [_counts(part) for part in parts]
            self._starts = [start for start, _ in counts]
            self.action_space = spaces.MultiDiscrete(np.concatenate([n for _, n in counts]))

    def action(self, action: Action) -> Action:
        """The simulator's own form of an action."""
        values, at, inverse = np.asarray(action).ravel(), 0, []
        for number, part in enumerate(self._parts):
            size = int(np.prod(part.shape)) or 1
            numbers = values[at : at + size]
            at += size
            if self._starts is not None:
                numbers = numbers + self._starts[number]
            inverse.append(
                part.dtype.type(numbers[0])
                if isinstance(part, spaces.Discrete)
                else numbers.reshape(part.shape).astype(part.dtype)
            )
        return (
            tuple(inverse) if self._keys is None else dict(zip(self._keys, inverse, strict=True))
        )


class RescaleAction(_Stateless):
    """The agent acts in [-1, 1], whatever the range of the simulator.

    Args:
        env: With actions ``Box`` that have ends.

    Raises:
        SpaceMismatch: They are not.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._box = _bounded(env, "rescale_action")
        self.action_space = spaces.Box(-1.0, 1.0, self._box.shape, np.float32)

    def action(self, action: Action) -> Action:
        """In the simulator's own range."""
        low, high = self._box.low, self._box.high
        share = (np.clip(np.asarray(action), -1.0, 1.0) + 1.0) / 2.0
        rescaled: np.ndarray = (low + share * (high - low)).astype(self._box.dtype)
        return rescaled


class DiscretiseAction(_Stateless):
    """A Box as choices: ``bins`` values a part, evenly from its lower to its upper end.

    Args:
        env: With actions ``Box`` that have ends.
        bins: Values of each part. One part becomes ``Discrete``, several ``MultiDiscrete``.

    Raises:
        SpaceMismatch: Actions have no ends.
        ConfigError: Fewer than two bins.
    """

    def __init__(self, env: Env, bins: int = 5) -> None:
        super().__init__(env)
        self._box = _bounded(env, "discretise_action")
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
            raise ConfigError(
                "at least 2 values are needed",
                value=bins,
                allowed="2 and more",
                hint="write bins: 5",
            )
        self._bins = bins
        n = int(np.prod(self._box.shape))
        self.action_space = (
            spaces.Discrete(bins) if n == 1 else spaces.MultiDiscrete(np.full(n, bins))
        )

    def action(self, action: Action) -> Action:
        """The values of the choices."""
        share = np.asarray(action, np.float64).reshape(self._box.shape) / (self._bins - 1)
        low, high = self._box.low, self._box.high
        return (low + share * (high - low)).astype(self._box.dtype)


def _bounded(env: Env, name: str) -> spaces.Box:
    box = env.action_space
    if not isinstance(box, spaces.Box) or not box.is_bounded():
        raise SpaceMismatch(
            f"{name} needs actions that are a Box with ends, not {box}",
            hint=f"put flatten_action before {name}, or delete {name}",
        )
    return box


def _counts(part: spaces.Space[Observation]) -> tuple[np.ndarray | np.integer | int, np.ndarray]:
    """First value and number of values of each integer in a part."""
    if isinstance(part, spaces.Discrete):
        return part.start, np.array([part.n])
    if isinstance(part, spaces.MultiDiscrete):
        return part.start.ravel(), part.nvec.ravel()
    if isinstance(part, spaces.MultiBinary):
        return 0, np.full(int(np.prod(part.shape)), 2)
    if isinstance(part, spaces.Box) and part.is_bounded():
        low = part.low.ravel().astype(np.int64)
        return low, part.high.ravel().astype(np.int64) - low + 1
    raise SpaceMismatch(
        f"flatten_action cannot take {part} apart",
        hint="use Box, Discrete, MultiDiscrete or MultiBinary parts",
    )
