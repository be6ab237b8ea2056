"""A network that plays episodes in several copies at once: memory and masks of each."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np


class Playing:
    """Acts with a policy of Stable-Baselines3 or sb3-contrib.

    A recurrent policy remembers what it saw in each copy, from the episode's begin; a masked one
    asks each copy which actions are possible.

    Args:
        policy: The network.
        deterministic: Without exploration noise.
        venv: The copies, where they are known already; else see ``bind``.
    """

    def __init__(self, policy: Any, deterministic: bool, venv: Any = None) -> None:
        self._policy, self._deterministic, self._venv = policy, deterministic, venv
        self._masked = takes_masks(policy)
        self._memory: Any = None
        self._begun: set[int] = set()

    def bind(self, venv: Any) -> None:
        """The copies that it acts in."""
        self._venv, self._memory = venv, None

    def begin(self, copy: int, seed: int = 0, options: dict[str, Any] | None = None) -> None:
        """An episode begins in a copy: what it remembers of the one before is forgotten."""
        self._begun.add(copy)

    def act(self, observations: Any) -> np.ndarray:
        """Actions, ``(copies, *action shape)``, for observations with a leading copy axis."""
        starts = np.zeros(self._venv.num_envs, dtype=bool)
        starts[list(self._begun)] = True
        self._begun.clear()
        masks = {}
        if self._masked:
            masks["action_masks"] = np.stack(self._venv.env_method("action_masks"))
        actions, self._memory = self._policy.predict(
            observations,
            state=self._memory,
            episode_start=starts,
            deterministic=self._deterministic,
            **masks,
        )
        return np.asarray(actions)


def takes_masks(policy: Any) -> bool:
    """Does a policy want to know which actions are possible?"""
    return "action_masks" in inspect.signature(policy.predict).parameters
