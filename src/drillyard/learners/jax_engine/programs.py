"""The compiled part of PPO and A2C: advantages of a rollout, and all of its updates.

Source: ``RolloutBuffer.compute_returns_and_advantage``, ``PPO.train`` and ``A2C.train`` of
stable_baselines3 2.9. ``tests/unit/learners/test_jax_engine.py`` compares losses and gradients
with these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drillyard.learners.jax_engine import activations, likelihood, optimisers
from drillyard.learners.jax_engine.network import Network

TARGET_KL_FACTOR = 1.5
"""Stable-Baselines3 ends the updates of a rollout at this times ``target_kl``."""
ROWS = 1 << 14
"""Rows of a rollout that are judged at once: bounds the memory of wide layers."""


@dataclass(frozen=True)
class Program:
    """What is compiled: everything that changes the operations, and not only their numbers.

    ``ratios`` is True for PPO, which compares probabilities, and False for A2C.
    """

    network: Network
    optimiser: optimisers.Optimiser
    ratios: bool
    normalize_advantage: bool
    clip_values: bool = False
    limit_kl: bool = False


class Numbers(NamedTuple):
    """What may change from one update to the next."""

    rate: Any
    ent_coef: Any
    vf_coef: Any
    max_grad_norm: Any
    clip_range: Any = 0.0
    clip_range_vf: Any = 0.0
    target_kl: Any = 0.0


class Batch(NamedTuple):
    """Steps that are learned from; all with a leading axis of steps."""

    features: Any
    actions: Any
    advantages: Any
    returns: Any
    log_probs: Any
    values: Any


class Told(NamedTuple):
    """What a minibatch says of itself, by Stable-Baselines3's names."""

    loss: Any
    policy_loss: Any
    value_loss: Any
    entropy_loss: Any
    clip_fraction: Any
    approx_kl: Any
    taken: Any = 1.0
    """0: the updates of this rollout were at an end before."""


def forward(network: Network, parameters: dict[str, Any], features: Any, of: str) -> Any:
    """Outputs of the ``actor`` or the ``critic``."""
    activate = activations.compiled(network.activation)
    *hidden, (weight, bias) = getattr(network, of)
    for each, add in hidden:
        features = activate(features @ parameters[each].T + parameters[add])
    return features @ parameters[weight].T + parameters[bias]


def loss(program: Program, parameters: dict[str, Any], batch: Batch, now: Numbers) -> Any:
    """The loss of a minibatch, and what it is made of."""
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
    return whole, Told(whole, policy_loss, value_loss, entropy_loss, clip_fraction, approx_kl)


def gradient(program: Program, values: Any, batch: Batch, now: Numbers) -> tuple[Any, Told]:
    """The gradient of the loss as a flat vector, not cut yet."""
    parameters = program.network.unflatten(values)
    found, told = jax.grad(loss, argnums=1, has_aux=True)(program, parameters, batch, now)
    return jnp.concatenate([found[p.name].reshape(-1) for p in program.network.places]), told


def _learn(
    program: Program,
    kept: Any,
    steps: Any,
    features: Any,
    actions: Any,
    judged: Any,
    order: Any,
    numbers: Any,
) -> tuple[Any, Any, Any]:
    """All minibatches of a rollout, one after the other.

    A call pays for each array that it is given or gives; so there are few.

    Args:
        program: What is computed.
        kept: ``Weights.state``.
        steps: ``Weights.steps``.
        features: (rows, features).
        actions: (rows, values of an action).
        judged: The rest of a ``Batch``, (4, rows).
        order: Rows of each minibatch, (minibatches, rows).
        numbers: ``Numbers`` as an array.

    Returns:
        The new ``kept`` and ``steps``, and ``Told`` as an array, (minibatches, 7).
    """
    batch, now = Batch(features, actions, *judged), Numbers(*numbers)

    def update(state: Any, part: Batch) -> tuple[Any, Any]:
        values, slots, steps, _ = state
        found, told = gradient(program, values, part, now)
        going = jnp.bool_(True)
        if program.limit_kl:
            going = ~(told.approx_kl > TARGET_KL_FACTOR * now.target_kl)
        norm = jnp.sqrt(jnp.vdot(found, found))
        found = found * jnp.minimum(1.0, now.max_grad_norm / (norm + 1e-6))
        new = optimisers.step(program.optimiser, values, found, slots, steps + 1, now.rate)
        state = (*new, steps + 1, going)
        if program.limit_kl:
            state = jax.tree.map(
                lambda a, b: jnp.where(going, a, b), state, (values, slots, steps, going)
            )
        return state, jnp.stack(told)

    def minibatch(state: Any, rows: Any) -> tuple[Any, Any]:
        part = Batch(*(each[rows] for each in batch))
        if not program.limit_kl:
            return update(state, part)
        nothing = jnp.zeros(len(Told._fields))
        found: tuple[Any, Any] = jax.lax.cond(
            state[-1], lambda: update(state, part), lambda: (state, nothing)
        )
        return found

    begin = (kept[0], tuple(kept[1:]), steps, jnp.bool_(True))
    (values, slots, steps, _), told = jax.lax.scan(minibatch, begin, order)
    return jnp.stack([values, *slots]), steps, told


def _judge(
    program: Program, values: Any, features: Any, actions: Any, outcomes: Any, numbers: Any
) -> Any:
    """Values, log-probabilities and advantages of a rollout, (3, steps, copies).

    Generalised advantage estimation: Schulman et al., "High-dimensional continuous control using
    generalized advantage estimation" (2016), equation 16.

    Args:
        program: What is computed.
        values: Parameters, flat.
        features: (steps + 1, copies, features): the last row is that after the rollout.
        actions: (steps, copies, values of an action).
        outcomes: (2, steps, copies): rewards, with what is expected after a time limit; 1 where
            the episode went on after the step.
        numbers: Discount, and lambda of the source.
    """
    network, parameters = program.network, program.network.unflatten(values)
    copies, (rewards, going), (gamma, gae_lambda) = features.shape[1], outcomes, numbers

    def rows(each: tuple[Any, Any]) -> tuple[Any, Any]:
        seen, done = each
        outputs = forward(network, parameters, seen, "actor")
        likely, _ = likelihood.judge(network.head, outputs, parameters, done)
        return forward(network, parameters, seen, "critic")[:, 0], likely

    steps = len(actions)
    whole = features[:-1].reshape(steps * copies, -1), actions.reshape(steps * copies, -1)
    if steps * copies <= ROWS:
        expected, likely = rows(whole)
    else:
        expected, likely = jax.lax.map(
            lambda each: jax.tree.map(lambda one: one[0], rows((each[0][None], each[1][None]))),
            whole,
            batch_size=ROWS,
        )
    expected, likely = expected.reshape(steps, copies), likely.reshape(steps, copies)
    last = forward(network, parameters, features[-1], "critic")[:, 0]
    after = jnp.concatenate([expected[1:], last[None]])
    deltas = rewards + gamma * after * going - expected

    def back(later: Any, here: tuple[Any, Any]) -> tuple[Any, Any]:
        delta, alive = here
        advantage = delta + gamma * gae_lambda * alive * later
        return advantage, advantage

    begin = jnp.zeros(copies)
    _, advantages = jax.lax.scan(back, begin, (deltas, going), reverse=True, unroll=8)
    return jnp.stack([expected, likely, advantages])


class Compiled(NamedTuple):
    """Functions of one program; each call takes and gives arrays of NumPy or JAX."""

    judge: Any
    learn: Any
    gradient: Any
    act: Any


@cache
def compiled(program: Program) -> Compiled:
    """Compile a program, once for a process; XLA does so with the first call for a shape."""

    def act(values: Any, features: Any) -> Any:
        return forward(program.network, program.network.unflatten(values), features, "actor")

    return Compiled(
        *(
            jax.jit(each)
            for each in (
                lambda *given: _judge(program, *given),
                lambda *given: _learn(program, *given),
                lambda *given: gradient(program, *given),
                act,
            )
        )
    )
