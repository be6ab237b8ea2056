"""A simulator that ends its process when it is told to: by a fault in native code, or at once."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import gymnasium
import numpy as np
import torch

BREAK_AT = 40


class RoughWorld(gymnasium.Env[np.ndarray, int]):
    """Twenty steps an episode; the reward of each is the number of threads that torch has.

    Args:
        breaks: ``no``, ``segfault`` or ``exit``: what happens at step 40.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, breaks: str = "no") -> None:
        self._breaks, self._steps = breaks, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; the last one of the process where it breaks."""
        del action
        self._steps += 1
        if self._steps == BREAK_AT and self._breaks == "segfault":
            ctypes.string_at(0)
        if self._steps == BREAK_AT and self._breaks == "exit":
            os._exit(9)
        threads = float(torch.get_num_threads())
        return np.zeros(1, np.float32), threads, self._steps % 20 == 0, False, {}
