"""A learned correction of a controller that already works (residual policy learning).

T. Silver et al., "Residual policy learning", 2018; T. Johannink et al., "Residual reinforcement
learning for robot control", 2019.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from drillyard.agents.baselines import make_baseline


class Residual(gym.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """The reactor receives the controller's action plus the agent's; 0 is the controller alone.

    Args:
        env: ``cstr``.
        controller: Name of a baseline.
    """

    def __init__(
        self, env: gym.Env[np.ndarray, np.ndarray], controller: str = "p-controller"
    ) -> None:
        super().__init__(env)
        self._controller = make_baseline(controller, env)
        self._seen = np.zeros(env.observation_space.shape or (), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        self._seen, info = self.env.reset(seed=seed, options=options)
        self._controller.reset(seed or 0, options or {})
        return self._seen, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Act on what was seen last."""
        both = self._controller.act(self._seen) + np.asarray(action, np.float32)
        self._seen, *rest = self.env.step(np.clip(both, -1.0, 1.0))
        return self._seen, *rest

    def state(self) -> dict[str, Any]:
        """What the next step depends on; a checkpoint has it."""
        return {"seen": self._seen.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        self._seen = np.array(state["seen"], np.float32)
