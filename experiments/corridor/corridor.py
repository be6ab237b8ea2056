"""A simulator of one's own: walk along a corridor to the door. Beside the file that names it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Corridor(gymnasium.Env[Any, Any]):
    """Position on a line; left or right; the door is at the end.

    Args:
        length: Steps from the start to the door.
    """

    def __init__(self, length: int = 8) -> None:
        self.length = length
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._at = 0
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start in the near half, drawn by the seed."""
        super().reset(seed=seed)
        self._at, self._steps = int(self.np_random.integers(0, self.length // 2)), 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """1 is forward, 0 is back; each step costs a little, the door pays."""
        self._at = max(0, self._at + (1 if int(action) else -1))
        self._steps += 1
        there = self._at >= self.length
        return self._look(), float(there) - 0.01, there, self._steps >= 10 * self.length, {}

    def _look(self) -> Any:
        return np.array([min(1.0, self._at / self.length)], np.float32)

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with."""
        return {"at": self._at, "steps": self._steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._at, self._steps = int(state["at"]), int(state["steps"])
