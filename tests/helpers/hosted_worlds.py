"""Small worlds whose copies run on hosts."""

import os
import time

import numpy as np
from gymnasium import spaces

from tests.helpers.resume_worlds import Drift


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


class Waits(Drift):
    """Takes some time for each step, as a large program does, and no processor."""

    max_episode_steps = 1000

    def __init__(self, wait_s=0.05):
        super().__init__()
        self.wait_s = wait_s

    def step(self, action):
        time.sleep(self.wait_s)
        return super().step(action)
