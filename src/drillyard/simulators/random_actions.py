"""Random actions that a simulator accepts: with ``action_masks()``, only the possible ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Wrapper, spaces
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gymnasium import Env
    from stable_baselines3.common.vec_env import VecEnv

MASKS = "action_masks"
"""Method of a simulator; see ``drawn``."""


def is_masked(env: Env[Any, Any]) -> bool:
    """Whether a simulator says which actions are possible."""
    return env.has_wrapper_attr(MASKS)


def random_action(env: Env[Any, Any]) -> Any:
    """An action that is possible now, of a simulator in an episode."""
    return drawn(env.action_space, env.get_wrapper_attr(MASKS)() if is_masked(env) else None)


class PossibleActions(Wrapper[Any, Any, Any, Any]):
    """Replaces each action by a possible one, which is the same after each reset.

    For those that draw from the action space alone, as Gymnasium's checker does.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts the draws again, too."""
        self.action_space.seed(0)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """Takes a possible action instead."""
        return self.env.step(random_action(self.env))


def drawing(venv: VecEnv) -> Callable[[], NDArray[Any]]:
    """What draws an action for each copy that is possible now, ``(copies, *space.shape)``."""
    masked, copies = venv.has_attr(MASKS), venv.num_envs

    def draw() -> NDArray[Any]:
        masks = venv.env_method(MASKS) if masked else [None] * copies
        return np.array([drawn(venv.action_space, mask) for mask in masks])

    return draw


def drawn(space: spaces.Space[Any], mask: Any) -> Any:
    """An action drawn with the generator of a space.

    Args:
        space: The actions.
        mask: None, or what ``action_masks()`` returns in the form of sb3-contrib: a boolean for
            each action of a Discrete space; those of each part, one part after the other, for a
            MultiDiscrete one; and two for each bit of a MultiBinary one.
    """
    if mask is None:
        return space.sample()
    possible = np.asarray(mask, bool).ravel()
    if isinstance(space, spaces.Discrete):
        return space.start + space.np_random.choice(np.flatnonzero(possible))
    sizes = np.asarray(space.nvec) if isinstance(space, spaces.MultiDiscrete) else None
    if sizes is None:
        sizes = np.full(space.shape or (), 2)
    parts = np.split(possible, np.cumsum(sizes.ravel())[:-1])
    chosen = np.array([space.np_random.choice(np.flatnonzero(part)) for part in parts])
    start = space.start if isinstance(space, spaces.MultiDiscrete) else 0
    return (chosen.reshape(sizes.shape) + start).astype(space.dtype)
