"""A wrapper that keeps every step of every episode, for the files of ``metrics.step_csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium import spaces

from drillyard.errors import ConfigError
from drillyard.simulators.channels import Channel
from drillyard.simulators.state import State
from drillyard.simulators.step_logs import Names, Row
from drillyard.simulators.types import (
    Action,
    Env,
    Info,
    Layer,
    Observation,
    Options,
    ResetResult,
    StepResult,
)
from drillyard.simulators.wrappers import layers

FILES = ("monitor", "states", "trajectory")


class CsvLogger(Layer):
    """Keeps the steps of the current episode; ``info["log"]`` of its last step has them.

    They are part of the state, so a resumed episode is logged completely and once.

    Args:
        env: What to wrap: the simulator itself, with its ``time_limit`` where it has one.
        files: Files to write, from ``FILES``; all by default.
        step_seconds: Simulated time of a step; the simulator's own ``step_seconds``, else 1.

    Raises:
        ConfigError: An unknown file, or an invalid time.
    """

    def __init__(
        self, env: Env, files: Sequence[str] = FILES, step_seconds: float | None = None
    ) -> None:
        super().__init__(env)
        file_names = [files] if isinstance(files, str) else list(files)
        for name in file_names:
            if name not in FILES:
                raise ConfigError("no such log", value=name, known=FILES)
        base = layers(env)[-1]
        seconds = getattr(base, "step_seconds", 1.0) if step_seconds is None else step_seconds
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 < seconds < 1e9
        ):
            raise ConfigError(
                "step_seconds is a time",
                value=seconds,
                allowed="seconds above 0",
                hint="delete it for the simulator's own",
            )
        self._head = {"files": file_names, "step_seconds": float(seconds), **_names(base)}
        self._calendar = getattr(base, "calendar", None)
        self._config: Options = {}
        self._rows: list[Row] = []

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode; its first row has no action."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._config = dict(options or {})
        self._rows = [self._row(observation, info)]
        return observation, info

    def step(self, action: Action) -> StepResult:
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

    def _row(self, observation: Observation, info: Info) -> Row:
        row: Row = {
            "observation": _flat(observation),
            "state_": _numbers(info, "state_"),
            "reward_": _numbers(info, "reward_"),
        }
        if self._calendar is not None:
            row["calendar"] = self._calendar()
        return row

    def state(self) -> State:
        """The steps so far."""
        return {"config": dict(self._config), "rows": list(self._rows)}

    def load_state(self, state: State) -> None:
        """Continues the episode."""
        self._config, self._rows = dict(state["config"]), list(state["rows"])


def _names(base: Env) -> Names:
    declared = base.channels() if hasattr(base, "channels") else {}
    observation, action = (
        _channel_names(kind, space, declared.get(kind, []))
        for kind, space in (("observation", base.observation_space), ("action", base.action_space))
    )
    return {
        "observation_names": observation[0],
        "observation_units": observation[1],
        "action_names": action[0],
        "action_units": action[1],
    }


def _channel_names(
    kind: str, space: spaces.Space[Observation], channels: list[Channel]
) -> tuple[list[str], list[tuple[float, float] | None]]:
    if isinstance(space, spaces.Box) and len(channels) == spaces.utils.flatdim(space):
        ends = zip(channels, space.low.ravel(), space.high.ravel(), strict=True)
        return (
            [channel.name for channel in channels],
            [_line(channel, float(low), float(high)) for channel, low, high in ends],
        )
    space.seed(0)
    size = len(_flat(space.sample()))
    return [f"{kind}_{i}" for i in range(size)], [None] * size


def _numbers(info: Info, prefix: str) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in info.items()
        if key.startswith(prefix) and np.ndim(value) == 0
    }


def _line(channel: Channel, low: float, high: float) -> tuple[float, float] | None:
    """Factor and shift from a bound of the space to what it stands for."""
    if channel.low is None or channel.high is None or not np.isfinite(high - low):
        return None
    factor = (channel.high - channel.low) / (high - low)
    line = (factor, channel.low - factor * low)
    return None if line == (1.0, 0.0) else line


def _flat(value: Observation) -> list[float]:
    """Parts of a Dict or Tuple one after the other."""
    if isinstance(value, Mapping):
        return [number for key in sorted(value) for number in _flat(value[key])]
    if isinstance(value, tuple):
        return [number for part in value for number in _flat(part)]
    return [float(number) for number in np.asarray(value, dtype=np.float64).ravel()]
