"""Wrappers that change what the agent sees of one copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from drillyard.errors import ConfigError, SpaceMismatch
from drillyard.simulators.horizon import horizon
from drillyard.simulators.state import State, Stateless
from drillyard.simulators.types import (
    Action,
    Env,
    Layer,
    Observation,
    Options,
    ResetResult,
    StepResult,
)


def _flat_box(env: Env, name: str) -> spaces.Box:
    box = env.observation_space
    if not isinstance(box, spaces.Box) or len(box.shape) != 1:
        raise SpaceMismatch(
            f"{name} needs observations that are a flat Box, not {box}",
            hint=f"put flatten_observation before {name}",
        )
    return box


class ObservationLayer(Layer):
    """Shows the agent something else than the simulator does."""

    def _see(self, observation: Observation) -> np.ndarray:
        raise NotImplementedError

    def _first(self, observation: Observation) -> np.ndarray:
        return self._see(observation)

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._first(observation), info

    def step(self, action: Action) -> StepResult:
        """Step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._see(observation), reward, terminated, truncated, info


class RescaleObservation(Stateless, ObservationLayer):
    """Maps fixed ranges to [-1, 1], and clips: ``2 (x - low) / (high - low) - 1``.

    NaN becomes the middle, and so does a part whose range is a point.

    Args:
        env: With observations ``Box (n,)``.
        low: Lower ends, n numbers or one; the space's own by default.
        high: Upper ends.

    Raises:
        SpaceMismatch: Observations are not a flat Box.
        ConfigError: A range has no end, or is upside down; names the index.
    """

    def __init__(
        self,
        env: Env,
        low: Sequence[float] | float | None = None,
        high: Sequence[float] | float | None = None,
    ) -> None:
        super().__init__(env)
        box = _flat_box(env, "rescale_observation")
        try:
            given = (box.low if low is None else low, box.high if high is None else high)
            ends = [np.broadcast_to(np.asarray(end, np.float64), box.shape) for end in given]
        except ValueError as error:
            raise ConfigError(
                f"low and high have one number, or one for each of the {box.shape[0]} parts",
                value=[low, high],
                hint=f"write {box.shape[0]} numbers",
            ) from error
        self._low, self._high = ends
        bad = ~(np.isfinite(self._low) & np.isfinite(self._high)) | (self._low > self._high)
        if bad.any():
            index = int(np.argmax(bad))
            raise ConfigError(
                f"part {index} of the observation has no range",
                value=[float(self._low[index]), float(self._high[index])],
                allowed="two finite numbers, low below high",
                hint="give low and high",
            )
        self.observation_space = spaces.Box(-1.0, 1.0, box.shape, np.float32)

    def _see(self, observation: Observation) -> np.ndarray:
        span = self._high - self._low
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = 2.0 * (np.asarray(observation, np.float64) - self._low) / span - 1.0
        scaled[(span == 0) | np.isnan(scaled)] = 0.0
        seen: np.ndarray = np.clip(scaled, -1.0, 1.0).astype(np.float32)
        return seen


class TimeAware(ObservationLayer):
    """Adds the share of the episode that is over, 0 to 1, as the last part.

    Args:
        env: With observations ``Box (n,)``; seen are ``(n + 1,)``.
        max_episode_steps: Length of an episode; what the simulator declares by default.

    Raises:
        SpaceMismatch: Observations are not a flat Box.
        ConfigError: The length of an episode is unknown.
    """

    def __init__(self, env: Env, max_episode_steps: int | None = None) -> None:
        super().__init__(env)
        box = _flat_box(env, "time_aware")
        longest = max_episode_steps or horizon(env)
        if longest is None:
            raise ConfigError(
                "the length of an episode is unknown",
                hint="give max_episode_steps, or put time_limit before time_aware",
            )
        self._longest, self._steps = int(longest), 0
        low, high = (
            np.append(end, ends).astype(np.float32)
            for end, ends in ((box.low, 0.0), (box.high, 1.0))
        )
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    def _first(self, observation: Observation) -> np.ndarray:
        self._steps = -1
        return self._see(observation)

    def _see(self, observation: Observation) -> np.ndarray:
        self._steps += 1
        share = min(self._steps / self._longest, 1.0)
        return np.append(np.asarray(observation), share).astype(np.float32)

    def state(self) -> State:
        """Steps so far."""
        return {"steps": self._steps}

    def load_state(self, state: State) -> None:
        """Continues counting."""
        self._steps = int(state["steps"])


class History(ObservationLayer):
    """The last n observations in one, oldest first; a reset fills it with the first one.

    Args:
        env: With observations ``Box (m,)``; seen are ``(n m,)``.
        n: How many.

    Raises:
        SpaceMismatch: Observations are not a flat Box.
        ConfigError: n is below 2.
    """

    def __init__(self, env: Env, n: int = 5) -> None:
        super().__init__(env)
        box = _flat_box(env, "history")
        if isinstance(n, bool) or not isinstance(n, int) or n < 2:
            raise ConfigError(
                "a history has at least 2 observations",
                value=n,
                allowed="2 and more",
                hint="write n: 5",
            )
        self._rows = np.zeros((n, *box.shape), box.dtype)
        low, high = np.tile(box.low, n), np.tile(box.high, n)
        self.observation_space = spaces.Box(low, high, dtype=box.dtype.type)

    def _first(self, observation: Observation) -> np.ndarray:
        self._rows[:] = np.asarray(observation)
        return self._rows.ravel().copy()

    def _see(self, observation: Observation) -> np.ndarray:
        self._rows = np.roll(self._rows, -1, axis=0)
        self._rows[-1] = np.asarray(observation)
        return self._rows.ravel().copy()

    def state(self) -> State:
        """The observations."""
        return {"rows": self._rows.copy()}

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        self._rows = np.array(state["rows"], self._rows.dtype)
