"""What callbacks hear of a compiled rollout: the steps that ended an episode, and the last one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from drillyard.learners.types import Infos
from drillyard.simulators.functional.copies import FunctionalEnv

if TYPE_CHECKING:
    from drillyard.learners.jax_engine.fused import Played

Seen: TypeAlias = "np.ndarray | dict[str, np.ndarray]"


class Told(NamedTuple):
    """A step, with the names that Stable-Baselines3's loop has for it."""

    step: int
    """From 0 in the rollout."""
    infos: Infos
    dones: np.ndarray
    rewards: np.ndarray
    new_obs: Seen


def told(base: FunctionalEnv, played: Played) -> Iterator[Told]:
    """The steps of a rollout that callbacks hear of.

    These are the steps in which an episode ended, or a number was not finite, and the last step.

    Args:
        base: The copies, as they were before the rollout.
        played: The rollout, in arrays of NumPy.
    """
    outcome = played.outcome
    dones, raw = np.asarray(outcome.dones), np.asarray(outcome.rewards)
    notable = dones.any(axis=1) | ~np.isfinite(raw).all(axis=1)
    for leaf in _leaves(played.seen):
        if leaf.dtype.kind == "f":
            notable |= ~np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
    notable[-1] = True
    ended = np.zeros(base.num_envs, np.int64)
    for step in map(int, np.flatnonzero(notable)):
        seen = _at(played.seen, step)
        outcome_here = type(outcome)(*(_at(part, step) for part in outcome))
        infos: list[dict[str, Any]] = [{} for _ in range(base.num_envs)]
        for copy in map(int, np.flatnonzero(dones[step])):
            infos[copy] = base.end(copy, int(ended[copy]), outcome_here, _at(seen, copy))
        ended += dones[step]
        yield Told(step, infos, dones[step], raw[step].astype(np.float32), seen)


def _leaves(tree: Any) -> list[np.ndarray]:
    return list(tree.values()) if isinstance(tree, dict) else [tree]


def _at(tree: Any, index: int) -> Any:
    if isinstance(tree, dict):
        return {key: part[index] for key, part in tree.items()}
    return tree[index] if isinstance(tree, np.ndarray) else tree
