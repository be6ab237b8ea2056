"""Small worlds for resume tests: one that can be frozen, with noise of its own."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drillyard.simulators.state import load_rng, rng_state


class Drift(gym.Env):
    """A point drifts; push it back to 0. Stateful; noise from its own generator."""

    max_episode_steps = 40
    reset_keys = ("start", "noise")

    def __init__(self, discrete=False, dict_observation=False):
        box = spaces.Box(-10.0, 10.0, (3,), np.float32)
        self.observation_space = spaces.Dict({"point": box}) if dict_observation else box
        self.action_space = (
            spaces.Discrete(3) if discrete else spaces.Box(-1.0, 1.0, (2,), np.float32)
        )
        self.discrete, self.dict_observation = discrete, dict_observation
        self.x, self.t, self.noise = np.zeros(2), 0, 0.1

    def _observe(self):
        observation = np.array([*self.x, self.t / 40], np.float32).clip(-10, 10)
        return {"point": observation} if self.dict_observation else observation

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        options = options or {}
        self.noise = float(options.get("noise", 0.1))
        self.x = self.np_random.normal(size=2) + float(options.get("start", 0.0))
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        push = np.array([action - 1.0, 0.0]) if self.discrete else np.asarray(action, float)
        self.x = self.x + 0.2 * push + self.noise * self.np_random.normal(size=2)
        self.t += 1
        far = bool(np.abs(self.x).max() > 4)
        info = {"far": float(np.abs(self.x).max())}
        return self._observe(), -float((self.x**2).sum()), far, self.t >= 40, info

    def state(self):
        return {
            "x": self.x.copy(),
            "t": self.t,
            "noise": self.noise,
            "rng": rng_state(self.np_random),
        }

    def load_state(self, state):
        self.x, self.t, self.noise = state["x"].copy(), state["t"], state["noise"]
        _ = self.np_random
        load_rng(self._np_random, state["rng"])


class Masked(Drift):
    """Standing still is possible at every other step only."""

    def __init__(self):
        super().__init__(discrete=True)

    def action_masks(self):
        return np.array([True, self.t % 2 == 0, True])

    def step(self, action):
        if not self.action_masks()[int(action)]:
            raise ValueError(f"action {action} is not possible at step {self.t}")
        return super().step(action)


class Breaks(Drift):
    """Returns NaN in copy 1 at its 30th step."""

    made = 0

    def __init__(self, what="observation"):
        super().__init__()
        self.copy, self.steps, self.what = Breaks.made, 0, what
        Breaks.made += 1

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        if self.copy % 2 == 1 and self.steps == 30:
            if self.what == "reward":
                reward = float("inf")
            else:
                observation[2] = np.nan
        return observation, reward, terminated, truncated, info


class Tank:
    """A plain simulator that cannot be saved, and whose episodes do not end."""

    def reset(self, config):
        self.level = 0.5
        return {"level": self.level}

    def step(self, actions):
        self.level += 0.1 * (actions["inflow"] - 0.5 * self.level)
        return {"level": self.level}

    def terminated(self):
        return False

    def truncated(self):
        return False


class Dice(Drift):
    """Draws from numbers that all code of a process shares, and cannot be saved."""

    state = load_state = None

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + float(np.random.normal()), *rest


class Forgetful(Drift):
    """Cannot be saved; what it draws from its generator can be replayed."""

    state = load_state = None
