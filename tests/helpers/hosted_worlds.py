"""Small worlds whose copies run on hosts."""

import os
import time

import numpy as np
from gymnasium import spaces

from tests.helpers.resume_worlds import Drift
from tests.helpers.steady_world import Steady


class Silent(Drift):
    """Its state cannot be read."""

    state = None


class Fails(Drift):
    """Raises in its 20th step."""

    def step(self, action):
        if self.t == 20:
            raise ZeroDivisionError("the tank is empty")
        return super().step(action)


class OtherShape(Drift):
    """Has another observation in other processes than that of the test."""

    def __init__(self):
        super().__init__()
        if os.environ["OTHER_SHAPE_IN"] != str(os.getpid()):
            self.observation_space = spaces.Box(-10.0, 10.0, (5,), np.float32)


class Threads(Drift):
    """Its copies may be in threads."""

    thread_safe = True


class Waits(Steady):
    """Takes some time for each step, as a large program does, and no processor."""

    length = max_episode_steps = 1000
    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, wait_s=0.05):
        self.wait_s = wait_s

    def step(self, action):
        time.sleep(self.wait_s)
        return *super().step(action)[:4], {"waited_s": self.wait_s}

    def state(self):
        return {"n": self.n}

    def load_state(self, state):
        self.n = state["n"]


class WaitsInThreads(Waits):
    """Its copies may be in threads."""

    thread_safe = True


class PlainThreads:
    """A plain simulator whose copies may be in threads."""

    thread_safe = True

    def reset(self, config):
        self.x = 0.0
        return {"x": self.x}

    def step(self, actions):
        self.x += actions["push"]
        return {"x": self.x}

    def terminated(self):
        return False

    def truncated(self):
        return False
