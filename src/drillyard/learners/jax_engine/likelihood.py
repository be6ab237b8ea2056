"""Log-probabilities and entropies of actions in JAX, with the formulas of Stable-Baselines3.

Source: ``common/distributions.py`` of stable_baselines3 2.9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from drillyard.learners.jax_engine.network import LOG_STD, Head

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def judge(
    head: Head,
    outputs: jax.Array,
    parameters: Mapping[str, jax.Array | np.ndarray],
    actions: jax.Array | np.ndarray,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each action, and entropy of each distribution, in nats.

    Args:
        head: The distribution.
        outputs: The outputs of the actor, (rows, ``head.outputs``).
        parameters: The parameters of the policy.
        actions: (rows, values of an action), float32 or int32.
    """
    if head.kind == "gaussian":
        log_std = parameters[LOG_STD]
        off = (actions - outputs) * jnp.exp(-log_std)
        likely = (-0.5 * off * off - log_std - _HALF_LOG_TAU).sum(axis=1)
        return likely, jnp.broadcast_to((0.5 + _HALF_LOG_TAU + log_std).sum(), likely.shape)
    if head.kind == "bernoulli":
        yes, no = jax.nn.log_sigmoid(outputs), jax.nn.log_sigmoid(-outputs)
        likely = jnp.where(actions > 0, yes, no).sum(axis=1)
        return likely, -(jnp.exp(yes) * yes + jnp.exp(no) * no).sum(axis=1)
    likely, entropy = 0.0, 0.0
    starts = np.cumsum([0, *head.sizes])
    for column, (start, size) in enumerate(zip(starts, head.sizes, strict=False)):
        logs = jax.nn.log_softmax(outputs[:, start : start + size])
        chosen = actions[:, column, None] == jnp.arange(size)
        likely += jnp.where(chosen, logs, 0.0).sum(axis=1)
        entropy -= (jnp.exp(logs) * logs).sum(axis=1)
    return likely, entropy


def choose(
    head: Head,
    outputs: jax.Array,
    parameters: Mapping[str, jax.Array | np.ndarray],
    noise: jax.Array,
) -> jax.Array:
    """Actions of all copies, not yet clipped, (copies, values of an action).

    Args:
        head: The distribution.
        outputs: The outputs of the actor, (copies, ``head.outputs``).
        parameters: The parameters of the policy.
        noise: A result of ``host.noise`` for one step.
    """
    if head.kind == "gaussian":
        return outputs + noise * jnp.exp(parameters[LOG_STD])
    if head.kind == "bernoulli":
        return (noise > -outputs).astype(jnp.int32)
    starts = np.cumsum([0, *head.sizes])
    return jnp.stack(
        [
            (outputs + noise)[:, start : start + size].argmax(axis=1).astype(jnp.int32)
            for start, size in zip(starts, head.sizes, strict=False)
        ],
        axis=1,
    )
