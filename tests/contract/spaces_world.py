"""A small world with the spaces that a test asks for; it can be frozen."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drillyard.simulators.state import load_rng, rng_state

ACTIONS = {
    "box": spaces.Box(-1.0, np.array([1.0, 2.0, 0.5], np.float32), (3,), np.float32),
    "square": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    "discrete": spaces.Discrete(4),
    "multidiscrete": spaces.MultiDiscrete([3, 2, 5]),
    "multibinary": spaces.MultiBinary(3),
}
_FLAT = spaces.Box(-5.0, 5.0, (4,), np.float32)
OBSERVATIONS = {
    "flat": _FLAT,
    "double": spaces.Box(-5.0, 5.0, (4,), np.float64),
    "table": spaces.Box(-5.0, 5.0, (2, 3), np.float32),
    "bytes": spaces.Box(0, 255, (5,), np.uint8),
    "image": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "discrete": spaces.Discrete(6),
    "multidiscrete": spaces.MultiDiscrete([3, 4]),
    "multibinary": spaces.MultiBinary(4),
    "dict": spaces.Dict(
        {
            "z": _FLAT,
            "a": spaces.Discrete(3),
            "m": spaces.MultiDiscrete([2, 3]),
            "b": spaces.MultiBinary(2),
            "table": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
        }
    ),
}


class AnySpaces(gym.Env):
    """Observations by chance, pulled by the action; ends by chance, or at its time limit."""

    max_episode_steps = 9

    def __init__(self, observation="flat", action="box", ends=0.05):
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.ends, self.pull, self.t = ends, 0.0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pull, self.t = 0.0, 0
        return self._see(self.observation_space), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype)[()])
        self.pull = 0.9 * self.pull + 0.1 * float(np.sum(action))
        self.t += 1
        over = bool(self.np_random.random() < self.ends)
        reward = float(self.np_random.normal() - self.pull**2)
        return (
            self._see(self.observation_space),
            reward,
            over,
            self.t >= self.max_episode_steps,
            {},
        )

    def _see(self, space):
        rng = self.np_random
        if isinstance(space, spaces.Dict):
            return {key: self._see(part) for key, part in space.spaces.items()}
        if isinstance(space, spaces.Discrete):
            return int(rng.integers(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            return rng.integers(space.nvec).astype(space.dtype)
        if isinstance(space, spaces.MultiBinary):
            return rng.integers(2, size=space.shape).astype(space.dtype)
        if space.dtype == np.uint8:
            return rng.integers(256, size=space.shape).astype(np.uint8)
        drawn = rng.normal(size=space.shape) + self.pull
        return np.clip(drawn, space.low, space.high).astype(space.dtype)

    def state(self):
        return {"pull": self.pull, "t": self.t, "rng": rng_state(self.np_random)}

    def load_state(self, state):
        self.pull, self.t = state["pull"], state["t"]
        _ = self.np_random
        load_rng(self._np_random, state["rng"])
