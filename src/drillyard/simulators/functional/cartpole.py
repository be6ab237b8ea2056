"""``CartPole-v1`` as pure functions; its steps are Gymnasium's.

Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control
problems" (1983), with the constants of Gymnasium.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError
from drillyard.simulators.batch_protocol import number_of
from drillyard.simulators.functional.protocol import Stepped, Tree

GRAVITY = 9.8
"""m/s2."""
CART, POLE = 1.0, 0.1
"""Masses (kg)."""
HALF_LENGTH = 0.5
"""Half the length of the pole (m)."""
FORCE = 10.0
"""N."""
STEP_S = 0.02
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360
"""m, and rad."""
_FARTHEST = {"low": (-2.4, 2.4), "high": (-2.4, 2.4)}


class Bounds(NamedTuple):
    """What the four numbers of the first state are drawn from."""

    low: np.ndarray
    high: np.ndarray


class State(NamedTuple):
    """Cart and pole; leaves of one shape."""

    x: jax.Array
    x_dot: jax.Array
    angle: jax.Array
    angle_dot: jax.Array
    time: jax.Array


class CartPole:
    """See Gymnasium's ``CartPoleEnv``.

    Args:
        max_episode_steps: Longest episode.
        sutton_barto_reward: 0 a step and -1 at the end, and not 1 a step.
        render_mode: None; a form is not rendered.
    """

    version: ClassVar[int] = 1
    double: ClassVar[bool] = True

    def __init__(
        self,
        max_episode_steps: int = 500,
        sutton_barto_reward: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise ConfigError(
                "is not offered with copies: compiled",
                field="simulator.args.render_mode",
                value=render_mode,
                allowed="none",
                hint="delete `render_mode:`",
            )
        self.max_episode_steps, self._sutton = int(max_episode_steps), sutton_barto_reward
        high = np.array([2 * X_LIMIT, np.inf, 2 * ANGLE_LIMIT, np.inf], np.float32)
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)
        self.action_space: gym.Space[np.int64] = gym.spaces.Discrete(2)

    def params(self, options: Mapping[str, Json]) -> Bounds:
        """See ``FunctionalSimulator.params``; ``low`` and ``high`` as Gymnasium has them."""
        values = number_of("CartPole", options, _FARTHEST, {"low": -0.05, "high": 0.05})
        return Bounds(*np.array([values["low"], values["high"]]))

    def reset(self, key: jax.Array, params: Bounds) -> tuple[jax.Array, State]:
        """See ``FunctionalSimulator.reset``."""
        drawn = jax.random.uniform(key, (4,), params.low.dtype, params.low, params.high)
        state = State(drawn[0], drawn[1], drawn[2], drawn[3], jnp.int32(0))
        return _seen(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Bounds) -> Stepped:
        """See ``FunctionalSimulator.step``."""
        del key, params
        mass, lever = CART + POLE, POLE * HALF_LENGTH
        force = jnp.where(action == 1, FORCE, -FORCE).astype(state.x.dtype)
        cosine, sine = jnp.cos(state.angle), jnp.sin(state.angle)
        pushed = (force + lever * jnp.square(state.angle_dot) * sine) / mass
        turned = (GRAVITY * sine - cosine * pushed) / (
            HALF_LENGTH * (4.0 / 3.0 - POLE * jnp.square(cosine) / mass)
        )
        moved = pushed - lever * turned * cosine / mass
        new = State(
            state.x + STEP_S * state.x_dot,
            state.x_dot + STEP_S * moved,
            state.angle + STEP_S * state.angle_dot,
            state.angle_dot + STEP_S * turned,
            state.time + 1,
        )
        fell = (jnp.abs(new.x) > X_LIMIT) | (jnp.abs(new.angle) > ANGLE_LIMIT)
        reward = jnp.where(fell, -1.0, 0.0) if self._sutton else jnp.ones_like(new.x)
        return _seen(new), new, reward, fell, new.time >= self.max_episode_steps, {}


def _seen(state: State) -> Tree:
    return jnp.stack(state[:4]).astype(jnp.float32)
