"""Simulators that fail in a known episode, for the tests of `drillyard replay`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import gymnasium as gym
import numpy as np

LENGTH = 16


class Drifts(gym.Env):
    """Draws from its own generator, and fails when a sum of draws and actions is large enough.

    Args:
        how: ``raises``, ``reward`` (NaN), ``seen`` (NaN), ``last`` (NaN in the last observation),
            ``dies``, or ``shared``: it draws from NumPy's global generator, and raises.
        at: Sum from which on it fails.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, how: str = "raises", at: float = 40.0) -> None:
        self.how, self.at = how, at
        self.n, self.sum = 0, 0.0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.n, self.sum = 0, float(self.np_random.uniform(0, 20))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.n += 1
        draw = np.random.random() if self.how == "shared" else self.np_random.random()
        self.sum += float(2 * draw + np.abs(action).sum())
        over = self.n >= LENGTH
        reward, seen = self.sum, self._seen()
        if self.sum >= self.at:
            if self.how in ("raises", "shared"):
                raise ZeroDivisionError("the pump is dry")
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "reward":
                reward = float("nan")
            if self.how == "seen" or (self.how == "last" and over):
                seen = np.array([0, np.nan], np.float32)
        return seen, reward, False, over, {}

    def _seen(self) -> np.ndarray:
        return np.array([self.n / LENGTH, self.sum], np.float32)


class Saved(Drifts):
    """The same with a state that can be saved."""

    def state(self) -> dict[str, Any]:
        return {"n": self.n, "sum": self.sum, "rng": dict(self.np_random.bit_generator.state)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.n, self.sum = state["n"], state["sum"]
        self.np_random.bit_generator.state = state["rng"]


class Lessoned(Drifts):
    """Begins where the lesson says."""

    reset_keys = ("start",)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.sum = float(options["start"])
        return self._seen(), {}


class Endless(Drifts):
    """Fails in step 20,000 of its first episode."""

    def step(self, action: Any) -> Any:
        self.n += 1
        if self.n == 20_000:
            raise ZeroDivisionError("the pump is dry")
        return self._seen(), 0.0, False, False, {}


class Hangs(Drifts):
    """Never comes back from the third step."""

    def step(self, action: Any) -> Any:
        while self.n == 2:
            time.sleep(0.01)
        return super().step(action)


class Plain:
    """A level in plain Python, which draws from the generator that it receives."""

    def reset(self, config: dict[str, Any], rng: np.random.Generator) -> dict[str, float]:
        self.rng, self.n, self.level = rng, 0, float(rng.uniform(0, 5))
        return {"level": self.level}

    def step(self, actions: dict[str, Any]) -> dict[str, float]:
        self.n += 1
        self.level += float(self.rng.random()) * actions["inflow"]
        return {"level": self.level if self.level < 10 else float("nan")}

    def terminated(self) -> bool:
        return False

    def truncated(self) -> bool:
        return self.n >= LENGTH
