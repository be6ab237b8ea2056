"""The simplest simulator: what it shows and pays is always the same, for tests to build upon."""

from typing import Any

import gymnasium as gym
import numpy as np


class Steady(gym.Env[Any, Any]):
    """Shows zeros, pays ``paid``, and ends each episode after ``length`` steps."""

    observation_space: Any = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space: Any = gym.spaces.Discrete(2)
    length, paid, n = 20, 0.0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.n = 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.n += 1
        return self.look(), self.paid, False, self.n >= self.length, {}

    def look(self) -> Any:
        return np.zeros(self.observation_space.shape, np.float32)
