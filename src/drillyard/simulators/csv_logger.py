"""A wrapper that keeps every step of every episode, for the files of ``metrics.step_csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drillyard.errors import ConfigError
from drillyard.registry import nearest
from drillyard.simulators.channels import Channel
from drillyard.simulators.state import State
from drillyard.simulators.wrappers import Env, StepResult, layers

FILES = ("monitor", "states", "trajectory")


class CsvLogger(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the steps of the episode under way; ``info["log"]`` of its last step has them.

    They are part of the state, so that an episode that was resumed is logged whole and once.

    Args:
        env: What to wrap: the simulator itself, with its ``time_limit`` where it has one.
        files: Which files are written of it, of ``FILES``; all by default.
        step_seconds: Simulated time of a step; the simulator's own ``step_seconds``, else 1.

    Raises:
        ConfigError: A file that nobody knows, or no time.
    """

    def __init__(
        self, env: Env, files: Sequence[str] = FILES, step_seconds: float | None = None
    ) -> None:
        super().__init__(env)
        wanted = [files] if isinstance(files, str) else list(files)
        for name in wanted:
            if name not in FILES:
                raise ConfigError(
                    "no such log",
                    value=name,
                    allowed=", ".join(FILES),
                    hint=nearest(str(name), list(FILES)),
                )
        base = layers(env)[-1]
        own = getattr(base, "step_seconds", 1.0) if step_seconds is None else step_seconds
        if isinstance(own, bool) or not isinstance(own, int | float) or not 0 < own < 1e9:
            raise ConfigError(
                "step_seconds is a time",
                value=own,
                allowed="seconds above 0",
                hint="delete it for the simulator's own",
            )
        self._head = {"files": wanted, "step_seconds": float(own), **_names(base)}
        self._calendar = getattr(base, "calendar", None)
        self._config: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; its first row has no action."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._config = dict(options or {})
        self._rows = [self._row(observation, info)]
        return observation, info

    def step(self, action: Any) -> StepResult:
        """Step, and keep it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        row = self._row(observation, info)
        row |= {
            "action": _flat(action),
            "reward": float(reward),
            "ends": [bool(terminated), bool(truncated)],
        }
        self._rows.append(row)
        if terminated or truncated:
            info["log"] = {**self._head, "config": self._config, "rows": self._rows}
        return observation, reward, terminated, truncated, info

    def _row(self, observation: Any, info: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {"observation": _flat(observation)}
        for kind in ("state_", "reward_"):
            row[kind] = {
                k: float(v) for k, v in info.items() if k.startswith(kind) and np.ndim(v) == 0
            }
        if self._calendar is not None:
            row["calendar"] = self._calendar()
        return row

    def state(self) -> State:
        """The steps so far."""
        return {"config": dict(self._config), "rows": list(self._rows)}

    def load_state(self, state: State) -> None:
        """Go on with the episode."""
        self._config, self._rows = dict(state["config"]), list(state["rows"])


def _names(base: Env) -> dict[str, Any]:
    """Names of what is seen and done, and how to compute the simulator's own units.

    Returns:
        ``observation_names`` and ``action_names``; ``observation_units`` and ``action_units``:
        (factor, shift) of each value, None where it is in its own unit already.
    """
    declared = base.channels() if hasattr(base, "channels") else {}
    found: dict[str, Any] = {}
    for kind, space in (("observation", base.observation_space), ("action", base.action_space)):
        size = spaces.utils.flatdim(space) if isinstance(space, spaces.Box) else 0
        channels = declared.get(kind, [])
        if isinstance(space, spaces.Box) and len(channels) == size:
            found[f"{kind}_names"] = [channel.name for channel in channels]
            ends = zip(channels, space.low.ravel(), space.high.ravel(), strict=True)
            found[f"{kind}_units"] = [_line(c, float(low), float(high)) for c, low, high in ends]
        else:
            space.seed(0)
            size = len(_flat(space.sample()))
            found[f"{kind}_names"] = [f"{kind}_{i}" for i in range(size)]
            found[f"{kind}_units"] = [None] * size
    return found


def _line(channel: Channel, low: float, high: float) -> tuple[float, float] | None:
    """Factor and shift from a bound of the space to what it stands for."""
    if channel.low is None or channel.high is None or not np.isfinite(high - low):
        return None
    factor = (channel.high - channel.low) / (high - low)
    line = (factor, channel.low - factor * low)
    return None if line == (1.0, 0.0) else line


def _flat(value: Any) -> list[float]:
    """Parts of a Dict or Tuple one after the other."""
    if isinstance(value, Mapping):
        return [number for key in sorted(value) for number in _flat(value[key])]
    if isinstance(value, tuple):
        return [number for part in value for number in _flat(part)]
    return [float(number) for number in np.asarray(value, dtype=np.float64).ravel()]
