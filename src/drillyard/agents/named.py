"""Controllers of users that receive and return values by name, in units."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from drillyard.errors import RunFailed, SpaceMismatch
from drillyard.simulators.channels import Channel
from drillyard.simulators.plain import NamedStates
from drillyard.simulators.types import Observation
from drillyard.simulators.wrappers import Env, layers

Look = Callable[[], NamedStates]


class Controller(Protocol):
    """A class whose constructor takes the environment, or nothing."""

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """Begin an episode."""

    def act_named(self, states: dict[str, float]) -> Mapping[str, float]:
        """Values of all actions by name, from states by name; both in their units."""


class NamedBaseline:
    """A controller that acts by name, as a baseline.

    Args:
        kind: The user's class.
        env: One copy of the simulator, for names, units and ranges.

    Raises:
        SpaceMismatch: The simulator has no names, or a wrapper changes what they stand for.
    """

    def __init__(self, kind: Callable[..., Any], env: Env) -> None:
        base = layers(env)[-1]
        channels: dict[str, list[Channel]] = base.channels() if hasattr(base, "channels") else {}
        both = (base.observation_space, base.action_space)
        if not channels or both != (env.observation_space, env.action_space):
            raise SpaceMismatch(
                f"act_named() needs a simulator with names and units, and {base} has none here",
                hint="write act(observation) instead, or remove the wrapper that changes a space",
            )
        self._seen, self._done = channels["observation"], channels["action"]
        self._spaces = both
        self._controller: Controller = kind(env) if inspect.signature(kind).parameters else kind()
        self.look: Look | None = getattr(base, "named_states", None)
        """Gives the states as the simulator returned them, beyond the ranges of the file too."""

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """Begin an episode."""
        self._controller.reset(seed, options)

    def act(self, observation: Observation) -> Any:
        """The action for one observation."""
        last: Mapping[str, float] = {}
        named = self.look() if self.look is not None else None
        if named is not None:
            last = named.last
        seen = np.asarray(observation)
        if named is not None and np.array_equal(named.observation, seen):
            states = dict(named.states)
        else:  # a wrapper changed it, as sensor noise does
            values = _scaled(seen, self._spaces[0], self._seen, outwards=True)
            states = {c.name: float(v) for c, v in zip(self._seen, values, strict=True)}
        answer = self._controller.act_named(states)
        values = np.array([self._value(c, answer) for c in self._done])
        if not isinstance(self._spaces[1], spaces.Box):
            return values if isinstance(self._spaces[1], spaces.MultiDiscrete) else values[0]
        values = values - [last.get(c.name, 0.0) for c in self._done]
        action = _scaled(values, self._spaces[1], self._done, outwards=False)
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _value(self, channel: Channel, values: Any) -> float:
        names = ", ".join(c.name for c in self._done)
        if not isinstance(values, Mapping) or channel.name not in values:
            raise RunFailed(
                f"act_named() returned no value for {channel.name!r}: {values!r}",
                hint=f"return a dict with {names}",
            )
        value = values[channel.name]
        if channel.values is not None and value in channel.values:
            return channel.values.index(value)
        number = isinstance(value, int | float | np.number) and math.isfinite(value)
        if channel.values is not None or not number:
            allowed = channel.values if channel.values is not None else "a finite number"
            raise RunFailed(
                f"act_named() returned {value!r} for {channel.name!r}", hint=f"return {allowed}"
            )
        return float(value)


def _scaled(
    values: np.ndarray, space: spaces.Space[Any], channels: list[Channel], *, outwards: bool
) -> np.ndarray:
    """Between units and the bounds of a space."""
    assert isinstance(space, spaces.Box)
    scaled = np.array(values, np.float64)
    for i, channel in enumerate(channels):
        if channel.low is None or channel.high is None:
            continue
        inner = (float(space.low[i]), float(space.high[i]))
        outer = (channel.low, channel.high)
        (a, b), (c, d) = (inner, outer) if outwards else (outer, inner)
        scaled[i] = c + (scaled[i] - a) / (b - a) * (d - c)
    return scaled
