"""Push a cart back to 0 against random gusts. Does not use drillyard."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Pushcart(gym.Env):
    max_episode_steps = 40
    reset_keys = ("start",)

    def __init__(self):
        self.observation_space = spaces.Box(-20.0, 20.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.x, self.v, self.t = 0.0, 0.0, 0

    def _observe(self):
        return np.array([self.x, self.v], np.float32).clip(-20, 20)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float((options or {}).get("start", 0.0)) + 0.1 * float(self.np_random.normal())
        self.v, self.t = 0.0, 0
        return self._observe(), {}

    def step(self, action):
        gust = 0.1 * float(self.np_random.normal())
        self.v = 0.9 * self.v + 0.1 * float(action[0]) + gust
        self.x += 0.2 * self.v
        self.t += 1
        far = abs(self.x) > 4
        return self._observe(), -self.x * self.x, far, self.t >= 40, {"state_x": self.x}

    def state(self):
        rng = dict(self.np_random.bit_generator.state)
        return {"x": self.x, "v": self.v, "t": self.t, "rng": rng}

    def load_state(self, state):
        self.x, self.v, self.t = state["x"], state["v"], state["t"]
        self.np_random.bit_generator.state = state["rng"]
