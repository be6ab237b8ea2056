"""The longest episode of a simulator, if something limits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drillyard.simulators.types import Env

if TYPE_CHECKING:  # its import takes seconds
    from stable_baselines3.common.vec_env import VecEnv


def horizon(env: Env | VecEnv) -> int | None:
    """Steps of the longest possible episode.

    Args:
        env: A Gymnasium environment, or an SB3 ``VecEnv`` of copies (the first one is used).

    Returns:
        The smallest bound that a layer declares (``TimeLimit``, ``spec.max_episode_steps``, or an
        attribute ``max_episode_steps``); None when none does.
    """
    from gymnasium import Wrapper
    from gymnasium.wrappers import TimeLimit

    while hasattr(env, "venv"):
        env = env.venv
    layer = env.envs[0] if hasattr(env, "envs") else env
    bounds: list[int] = []
    while True:
        if isinstance(layer, TimeLimit):
            bounds.append(int(layer._max_episode_steps))
        declared = vars(layer).get("max_episode_steps")
        if declared is None:
            declared = getattr(type(layer), "max_episode_steps", None)
        if isinstance(declared, int):
            bounds.append(declared)
        if not isinstance(layer, Wrapper):
            break
        layer = layer.env
    spec = getattr(layer, "spec", None)
    if spec is not None and spec.max_episode_steps:
        bounds.append(int(spec.max_episode_steps))
    return min(bounds, default=None)
