"""The compiled part of PPO and A2C: the advantages of a rollout, and all updates from it.

Source: ``RolloutBuffer.compute_returns_and_advantage``, ``PPO.train`` and ``A2C.train`` of
stable_baselines3 2.9. ``tests/unit/learners/test_jax_engine.py`` compares losses and gradients
with these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from drillyard.learners.jax_engine import activations, likelihood, optimisers
from drillyard.learners.jax_engine.network import Network

Array: TypeAlias = jax.Array | np.ndarray
Number: TypeAlias = float | jax.Array
TARGET_KL_FACTOR = 1.5
"""Stable-Baselines3 ends the updates of a rollout at this factor times ``target_kl``."""
ROWS = 1 << 14
"""Rows of a rollout that are judged together; it bounds the memory of wide layers."""


@dataclass(frozen=True)
class Program:
    """The key of a compiled program: everything that changes operations, and not only numbers.

    ``ratios`` is True for PPO, which compares probabilities, and False for A2C.
    """

    network: Network
    optimiser: optimisers.Optimiser
    ratios: bool
    normalize_advantage: bool
    clip_values: bool = False
    limit_kl: bool = False


class Numbers(NamedTuple):
    """The coefficients, which may change from one update to the next."""

    rate: Number
    ent_coef: Number
    vf_coef: Number
    max_grad_norm: Number
    clip_range: Number = 0.0
    clip_range_vf: Number = 0.0
    target_kl: Number = 0.0


class Batch(NamedTuple):
    """Steps to learn from; all arrays have a leading axis of steps."""

    features: Array
    actions: Array
    advantages: Array
    returns: Array
    log_probs: Array
    values: Array


class MinibatchMetrics(NamedTuple):
    """The metrics of a minibatch, by the names of Stable-Baselines3."""

    loss: Array
    policy_loss: Array
    value_loss: Array
    entropy_loss: Array
    clip_fraction: Array
    approx_kl: Array
    taken: Number = 1.0
    """0 if the updates of this rollout ended before."""


def taken(metrics: np.ndarray) -> MinibatchMetrics:
    """The metrics of each minibatch that was used.

    Args:
        metrics: (minibatches, 7), a result of ``Compiled.learn``.
    """
    return MinibatchMetrics(*metrics[metrics[:, -1] > 0].T)


def forward(network: Network, parameters: dict[str, Array], features: Array, of: str) -> jax.Array:
    """The outputs of the ``actor`` or the ``critic``."""
    activate = activations.compiled(network.activation)
    *hidden, (weight, bias) = getattr(network, of)
    for each, add in hidden:
        features = activate(features @ parameters[each].T + parameters[add])
    return features @ parameters[weight].T + parameters[bias]


def loss(
    program: Program, parameters: dict[str, Array], batch: Batch, now: Numbers
) -> tuple[jax.Array, MinibatchMetrics]:
    """The loss of a minibatch, and its parts."""
    network = program.network
    values = forward(network, parameters, batch.features, "critic")[:, 0]
    outputs = forward(network, parameters, batch.features, "actor")
    log_probs, entropy = likelihood.judge(network.head, outputs, parameters, batch.actions)
    advantages = batch.advantages
    if program.normalize_advantage and len(advantages) > 1:
        spread = advantages.std(ddof=1) + 1e-8
        advantages = (advantages - advantages.mean()) / spread
    clip_fraction = approx_kl = jnp.float32(0)
    if program.ratios:
        moved = log_probs - batch.log_probs
        ratio, clip = jnp.exp(moved), now.clip_range
        clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
        policy_loss = -jnp.minimum(advantages * ratio, advantages * clipped).mean()
        clip_fraction = (jnp.abs(ratio - 1) > clip).mean()
        approx_kl = ((ratio - 1) - moved).mean()
    else:
        policy_loss = -(advantages * log_probs).mean()
    if program.clip_values:
        most = now.clip_range_vf
        values = batch.values + jnp.clip(values - batch.values, -most, most)
    value_loss = jnp.square(batch.returns - values).mean()
    entropy_loss = -entropy.mean()
    whole = policy_loss + now.ent_coef * entropy_loss + now.vf_coef * value_loss
    parts = (policy_loss, value_loss, entropy_loss, clip_fraction, approx_kl)
    return whole, MinibatchMetrics(whole, *parts)


def gradient(
    program: Program, values: Array, batch: Batch, now: Numbers
) -> tuple[jax.Array, MinibatchMetrics]:
    """The gradient of the loss as a flat vector, not yet clipped."""
    parameters = program.network.unflatten(values)
    gradients, metrics = jax.grad(loss, argnums=1, has_aux=True)(program, parameters, batch, now)
    flat = [gradients[p.name].reshape(-1) for p in program.network.places]
    return jnp.concatenate(flat), metrics


UpdateState: TypeAlias = tuple[jax.Array, tuple[jax.Array, ...], jax.Array, jax.Array]
"""Parameters, what the optimiser keeps, its steps, and whether updates continue."""


def _learn(
    program: Program,
    saved: Array,
    steps: Array,
    features: Array,
    actions: Array,
    judged: Array,
    order: Array,
    numbers: Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Learn from all minibatches of a rollout, one after the other.

    Each array of a call costs time, so there are few.

    Args:
        program: What is computed.
        saved: ``Weights.state``.
        steps: ``Weights.steps``.
        features: (rows, features).
        actions: (rows, values of an action).
        judged: The rest of a ``Batch``, (4, rows).
        order: Rows of each minibatch, (minibatches, rows).
        numbers: ``Numbers`` as an array.

    Returns:
        The new ``saved`` and ``steps``, and ``MinibatchMetrics`` as an array, (minibatches, 7).
    """
    batch, now = Batch(features, actions, *judged), Numbers(*numbers)

    def update(state: UpdateState, part: Batch) -> tuple[UpdateState, jax.Array]:
        values, slots, steps, _ = state
        step, metrics = gradient(program, values, part, now)
        going = jnp.bool_(True)
        if program.limit_kl:
            going = ~(metrics.approx_kl > TARGET_KL_FACTOR * now.target_kl)
        norm = jnp.sqrt(jnp.vdot(step, step))
        step = step * jnp.minimum(1.0, now.max_grad_norm / (norm + 1e-6))
        new = optimisers.step(program.optimiser, values, step, slots, steps + 1, now.rate)
        state = (*new, steps + 1, going)
        if program.limit_kl:
            state = jax.tree.map(
                lambda a, b: jnp.where(going, a, b), state, (values, slots, steps, going)
            )
        return state, jnp.stack(metrics)

    def minibatch(state: UpdateState, rows: jax.Array) -> tuple[UpdateState, jax.Array]:
        part = Batch(*(each[rows] for each in batch))
        if not program.limit_kl:
            return update(state, part)
        nothing = jnp.zeros(len(MinibatchMetrics._fields), jnp.float32)
        result: tuple[UpdateState, jax.Array] = jax.lax.cond(
            state[-1], lambda: update(state, part), lambda: (state, nothing)
        )
        return result

    begin = (saved[0], tuple(saved[1:]), steps, jnp.bool_(True))
    (values, slots, steps, _), metrics = jax.lax.scan(minibatch, begin, order)
    return jnp.stack([values, *slots]), steps, metrics


def _judge(
    program: Program,
    values: Array,
    features: Array,
    actions: Array,
    outcomes: Array,
    numbers: Array,
) -> jax.Array:
    """Values, log-probabilities and advantages of a rollout, (3, steps, copies).

    Generalised advantage estimation: Schulman et al., "High-dimensional continuous control using
    generalized advantage estimation" (2016), equation 16.

    Args:
        program: What is computed.
        values: Parameters, flat.
        features: (steps + 1, copies, features): the last row follows the rollout.
        actions: (steps, copies, values of an action).
        outcomes: (2, steps, copies): rewards, with the expected value after a time limit; 1 where
            the episode continued after the step.
        numbers: The discount, and the lambda of the source.
    """
    network, parameters = program.network, program.network.unflatten(values)
    copies, (rewards, going), (gamma, gae_lambda) = features.shape[1], outcomes, numbers

    def rows(part: tuple[Array, Array]) -> tuple[jax.Array, jax.Array]:
        inputs, actions = part
        outputs = forward(network, parameters, inputs, "actor")
        likely, _ = likelihood.judge(network.head, outputs, parameters, actions)
        return forward(network, parameters, inputs, "critic")[:, 0], likely

    steps = len(actions)
    whole = features[:-1].reshape(steps * copies, -1), actions.reshape(steps * copies, -1)
    if steps * copies <= ROWS:
        expected, likely = rows(whole)
    else:
        expected, likely = jax.lax.map(
            lambda row: jax.tree.map(lambda leaf: leaf[0], rows((row[0][None], row[1][None]))),
            whole,
            batch_size=ROWS,
        )
    expected, likely = expected.reshape(steps, copies), likely.reshape(steps, copies)
    last = forward(network, parameters, features[-1], "critic")[:, 0]
    after = jnp.concatenate([expected[1:], last[None]])
    deltas = rewards + gamma * after * going - expected

    def back(later: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, alive = step
        advantage = delta + gamma * gae_lambda * alive * later
        return advantage, advantage

    begin = jnp.zeros(copies, jnp.float32)
    _, advantages = jax.lax.scan(back, begin, (deltas, going), reverse=True, unroll=8)
    return jnp.stack([expected, likely, advantages])


class Compiled(NamedTuple):
    """The functions of one program; they take and return arrays of NumPy or JAX."""

    judge: Callable[..., jax.Array]
    learn: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
    gradient: Callable[..., tuple[jax.Array, MinibatchMetrics]]
    act: Callable[..., jax.Array]


@cache
def compiled(program: Program) -> Compiled:
    """Compile a program once in a process; XLA compiles at the first call with a shape."""

    def act(values: Array, features: Array) -> jax.Array:
        return forward(program.network, program.network.unflatten(values), features, "actor")

    parts = (partial(each, program) for each in (_judge, _learn, gradient))
    return Compiled(*map(jax.jit, (*parts, act)))
