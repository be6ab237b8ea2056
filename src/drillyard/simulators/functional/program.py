"""Copies of a functional simulator, stepped in JAX: what a compiled program has of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drillyard.simulators.functional.protocol import FunctionalSimulator, Tree


class Copies(NamedTuple):
    """Everything that the next steps of all copies depend on; leading axis: copies."""

    keys: jax.Array
    """Seeds of each copy's random numbers, (copies, 2) uint32."""
    steps: jax.Array
    """Steps since the reset, the same for all copies, int32."""
    state: Tree
    observation: Tree
    params: Tree
    """Those of the episodes under way."""
    begun: jax.Array
    """Episodes that began since the host looked, (copies,) int32."""
    returns: jax.Array
    """Sum of the rewards of the episode under way, (copies,)."""
    lengths: jax.Array
    """Steps of the episode under way, (copies,) int32."""


class Outcome(NamedTuple):
    """What a step of all copies gave."""

    last: Tree
    """Observations before a new episode begins."""
    rewards: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    returns: jax.Array
    """Sums of rewards with this step."""
    lengths: jax.Array
    """Lengths of episodes with this step."""
    info: dict[str, jax.Array]

    @property
    def dones(self) -> jax.Array:
        """Whose episode ended."""
        return self.terminated | self.truncated


_RESET = np.uint32(0xFFFF_FFFF)
"""Folded into the key of a first episode; a step folds in its number."""


def begin(simulator: FunctionalSimulator, seeds: np.ndarray, params: Tree) -> Copies:
    """Begin the first episode of all copies.

    Args:
        simulator: What they are copies of.
        seeds: One for each copy, (copies,) uint32.
        params: (copies, …).
    """
    keys = jax.vmap(jax.random.PRNGKey)(seeds)
    first = jax.vmap(lambda key: jax.random.fold_in(key, _RESET))(keys)
    observation, state = jax.vmap(simulator.reset)(first, params)
    nothing = jnp.zeros(len(seeds), jnp.int32)
    returns = jnp.zeros(len(seeds), float)
    return Copies(
        keys, jnp.int32(0), _plain(state), observation, params, nothing, returns, nothing
    )


def _plain(tree: Tree) -> Tree:
    """Python numbers in a state become arrays, with the types that a step gives them."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf), tree)


def advance(
    simulator: FunctionalSimulator,
    copies: Copies,
    actions: jax.Array,
    upcoming: Tree,
    limit: int | None,
    lanes: str | None = None,
) -> tuple[Copies, Outcome]:
    """Step all copies, and begin the next episode where one ended.

    Args:
        simulator: What they are copies of.
        copies: Before the step.
        actions: (copies, …).
        upcoming: Parameters of each copy's next episodes, (copies, episodes, …); the last of them
            is used again when they are used up.
        limit: A time limit in steps; None for the simulator's own alone.
        lanes: See ``anywhere``.
    """
    keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, copies.steps)))(
        copies.keys
    )
    last, state, rewards, terminated, truncated, info = jax.vmap(simulator.step)(
        keys[:, 0], copies.state, actions, copies.params
    )
    lengths, rewards = copies.lengths + 1, rewards.astype(float)
    returns = copies.returns + rewards
    if limit is not None:
        truncated = truncated | (lengths >= limit)
    outcome = Outcome(last, rewards, terminated, truncated, returns, lengths, info)
    dones, count = outcome.dones, len(rewards)
    state = jax.tree.map(lambda new, old: new.astype(old.dtype), state, copies.state)
    seen = jax.tree.map(lambda new, old: new.astype(old.dtype), last, copies.observation)

    def renewed() -> tuple[Tree, Tree, Tree]:
        number = jax.tree.leaves(upcoming)[0].shape[1] if jax.tree.leaves(upcoming) else 1
        index = jnp.minimum(copies.begun, number - 1)
        params = jax.tree.map(lambda leaf: leaf[jnp.arange(count), index], upcoming)
        fresh = jax.vmap(simulator.reset)(keys[:, 1], params)
        chosen: tuple[Tree, Tree, Tree] = jax.tree.map(
            partial(_choose, dones), (*fresh, params), (seen, state, copies.params)
        )
        return chosen

    # Most steps end no episode: nothing is computed for a beginning then.
    observation, state, params = jax.lax.cond(
        anywhere(dones, lanes), renewed, lambda: (seen, state, copies.params)
    )
    return (
        Copies(
            copies.keys,
            copies.steps + 1,
            state,
            observation,
            params,
            copies.begun + dones.astype(jnp.int32),
            jnp.where(dones, 0.0, returns),
            jnp.where(dones, 0, lengths),
        ),
        outcome,
    )


def anywhere(which: jax.Array, lanes: str | None) -> jax.Array:
    """Whether one of the copies is meant, in any lane.

    Args:
        which: Which copies are.
        lanes: The name of the axis that ``vmap`` adds; None without. One answer for all lanes
            keeps a ``cond``: with one each, ``vmap`` computes both of its sides at each step.
    """
    some = which.any()
    if lanes is None:
        return some
    return jax.lax.pmax(some.astype(jnp.int32), lanes) > 0


def _choose(dones: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    new = jnp.asarray(new, old.dtype)
    return jnp.where(dones.reshape(-1, *(1,) * (old.ndim - 1)), new, old)


def stepper(
    simulator: FunctionalSimulator, limit: int | None
) -> Callable[..., tuple[Copies, Outcome]]:
    """A compiled ``advance`` of (copies, actions, upcoming), for steps from the host."""
    compiled: Callable[..., tuple[Copies, Outcome]] = jax.jit(
        lambda copies, actions, upcoming: advance(simulator, copies, actions, upcoming, limit)
    )
    return compiled
