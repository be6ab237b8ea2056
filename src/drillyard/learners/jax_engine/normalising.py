"""The wrapper ``normalize`` in functional form, with the numbers of ``VecNormalize``.

Source: ``common/vec_env/vec_normalize.py`` and ``common/running_mean_std.py`` of
stable_baselines3 2.9, which compute in float64, as this does with a simulator in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drillyard.simulators.functional.protocol import Tree

if TYPE_CHECKING:
    from stable_baselines3.common.running_mean_std import RunningMeanStd
    from stable_baselines3.common.vec_env import VecNormalize


class Moments(NamedTuple):
    """A running mean and variance."""

    mean: jax.Array
    var: jax.Array
    count: jax.Array


class Scale(NamedTuple):
    """The statistics of ``VecNormalize``."""

    observation: dict[str, Moments]
    """By key of a Dict; of any other space under the empty name."""
    reward: Moments
    returns: jax.Array
    """Discounted sums of rewards, (copies,)."""


class Settings(NamedTuple):
    """The arguments of ``VecNormalize``, hashable."""

    keys: tuple[str, ...]
    """Parts of the observation that are normalised; ``("",)``: the whole of it."""
    reward: bool
    clip_obs: float
    clip_reward: float
    gamma: float
    epsilon: float


def read(wrapper: VecNormalize | None) -> Settings | None:
    """The settings of a wrapper, None without one."""
    if wrapper is None:
        return None
    keys: tuple[str, ...] = ()
    if wrapper.norm_obs:
        keys = tuple(wrapper.obs_rms) if isinstance(wrapper.obs_rms, dict) else ("",)
    return Settings(
        keys,
        bool(wrapper.norm_reward),
        float(wrapper.clip_obs),
        float(wrapper.clip_reward),
        float(wrapper.gamma),
        float(wrapper.epsilon),
    )


def capture(wrapper: VecNormalize | None, settings: Settings | None) -> Scale | None:
    """The statistics of a wrapper."""
    if wrapper is None or settings is None:
        return None
    return Scale(
        {key: _read(_part(wrapper, key)) for key in settings.keys},
        _read(wrapper.ret_rms),
        np.array(wrapper.returns, np.float64),
    )


def restore(wrapper: VecNormalize, scale: Scale) -> None:
    """Give a wrapper its statistics back."""
    for key, moments in scale.observation.items():
        _write(_part(wrapper, key), moments)
    _write(wrapper.ret_rms, scale.reward)
    wrapper.returns = np.array(scale.returns, np.float64)


def see(settings: Settings | None, scale: Scale | None, observation: Tree) -> Tree:
    """An observation as the learner sees it."""
    if settings is None or scale is None:
        return observation
    if settings.keys == ("",):
        return _seen(settings, scale.observation[""], observation)
    if not isinstance(observation, dict):
        return observation
    return {
        key: _seen(settings, scale.observation[key], part) if key in settings.keys else part
        for key, part in observation.items()
    }


def take(
    settings: Settings | None,
    scale: Scale | None,
    observation: Tree,
    rewards: jax.Array,
    dones: jax.Array,
) -> tuple[Scale | None, jax.Array]:
    """The statistics after a step, and the rewards as the learner sees them.

    Args:
        settings: What is normalised.
        scale: Before the step.
        observation: What all copies show after the step; a new episode's where one ended.
        rewards: Rewards of all copies.
        dones: Whose episode ended.
    """
    # SB3 has float32 rewards by then.
    rewards = rewards.astype(jnp.float32).astype(float)
    if settings is None or scale is None:
        return scale, rewards
    moments = {
        key: _updated(scale.observation[key], observation if key == "" else observation[key])
        for key in settings.keys
    }
    # Statistics of the returns are kept with `norm_reward: false`, too.
    returns = scale.returns * settings.gamma + rewards
    reward = _updated(scale.reward, returns)
    if settings.reward:
        limit = settings.clip_reward
        rewards = jnp.clip(rewards / jnp.sqrt(reward.var + settings.epsilon), -limit, limit)
    return Scale(moments, reward, jnp.where(dones, 0.0, returns)), rewards


def _seen(settings: Settings, moments: Moments, values: jax.Array) -> jax.Array:
    spread = jnp.sqrt(moments.var + settings.epsilon)
    limit = settings.clip_obs
    scaled = jnp.clip((values - moments.mean) / spread, -limit, limit)
    return scaled.astype(jnp.float32)


def _updated(moments: Moments, batch: jax.Array) -> Moments:
    """Chan et al., "Updating formulae and a pairwise algorithm" (1979)."""
    batch = batch.astype(float)
    number = len(batch)
    delta = batch.mean(axis=0) - moments.mean
    total = moments.count + number
    squares = moments.var * moments.count + batch.var(axis=0) * number
    squares = squares + jnp.square(delta) * moments.count * number / total
    return Moments(moments.mean + delta * number / total, squares / total, total)


def _part(wrapper: VecNormalize, key: str) -> RunningMeanStd:
    return wrapper.obs_rms if key == "" else wrapper.obs_rms[key]


def _read(rms: RunningMeanStd) -> Moments:
    return Moments(
        np.array(rms.mean, np.float64), np.array(rms.var, np.float64), np.float64(rms.count)
    )


def _write(rms: RunningMeanStd, moments: Moments) -> None:
    rms.mean = np.array(moments.mean, np.float64)
    rms.var = np.array(moments.var, np.float64)
    rms.count = float(moments.count)
