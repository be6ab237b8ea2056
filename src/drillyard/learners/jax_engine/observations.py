"""Observations as rows of numbers, as Stable-Baselines3's flat extractors make them.

Source: ``preprocess_obs``, ``FlattenExtractor`` and ``CombinedExtractor`` of stable_baselines3
2.9.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from drillyard.learners.types import Observation, Space

if TYPE_CHECKING:
    import jax

    from drillyard.simulators.functional.protocol import Tree

Writer = Callable[[np.ndarray, np.ndarray], None]


class Features:
    """Writes observations of several copies into rows.

    Args:
        space: The observation space of one copy. A mapping must not contain other mappings.
    """

    def __init__(self, space: Space) -> None:
        self._keys = list(space.spaces) if isinstance(space, spaces.Dict) else None
        parts = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
        self._parts: list[tuple[Writer, slice]] = []
        self.size = 0
        for part in parts:
            length, write = _part(part)
            self._parts.append((write, slice(self.size, self.size + length)))
            self.size += length

    def __call__(self, observations: Observation, rows: np.ndarray) -> np.ndarray:
        """Fill ``rows``.

        Args:
            observations: Observations with a leading axis of copies.
            rows: (copies, ``size``), float32.

        Returns:
            ``rows``.
        """
        if self._keys is None or not isinstance(observations, dict):
            assert isinstance(observations, np.ndarray)
            self._parts[0][0](observations, rows)
            return rows
        for key, (write, columns) in zip(self._keys, self._parts, strict=True):
            write(observations[key], rows[:, columns])
        return rows

    def one(self, observation: Observation) -> np.ndarray:
        """The row of a single observation, (``size``,)."""
        single: Observation
        if self._keys is not None and isinstance(observation, dict):
            single = {key: np.asarray(observation[key])[None] for key in self._keys}
        else:
            single = np.asarray(observation)[None]
        row: np.ndarray = self(single, np.zeros((1, self.size), np.float32))[0]
        return row


def _choices(space: Space) -> list[int] | None:
    """Number of choices of each integer; None if the values are numbers."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    return list(map(int, space.nvec.flat)) if isinstance(space, spaces.MultiDiscrete) else None


def _part(space: Space) -> tuple[int, Writer]:
    sizes = _choices(space)
    if sizes is not None:
        return sum(sizes), partial(_one_hot, sizes)
    return int(np.prod(space.shape or (1,))), _flat


def _flat(values: np.ndarray, rows: np.ndarray) -> None:
    rows[...] = values.reshape(len(rows), -1)


def _one_hot(sizes: list[int], values: np.ndarray, rows: np.ndarray) -> None:
    rows[...] = 0.0
    copies, start = np.arange(len(rows)), 0
    for column, size in zip(np.asarray(values).reshape(len(rows), -1).T, sizes, strict=True):
        rows[copies, start + column.astype(np.int64)] = 1.0
        start += size


def compiled_features(space: Space) -> Callable[[Tree], jax.Array]:
    """``Features`` in JAX: from observations of all copies to rows.

    Args:
        space: See ``Features``.
    """
    import jax
    import jax.numpy as jnp

    def one_hot(sizes: list[int], values: jax.Array) -> jax.Array:
        columns = values.reshape(len(values), -1).T.astype(jnp.int32)
        parts = [
            jax.nn.one_hot(column, size, dtype=jnp.float32)
            for column, size in zip(columns, sizes, strict=True)
        ]
        return jnp.concatenate(parts, axis=1)

    def rows(part: Space, values: jax.Array) -> jax.Array:
        sizes = _choices(part)
        if sizes is not None:
            return one_hot(sizes, values)
        return values.reshape(len(values), -1).astype(jnp.float32)

    if not isinstance(space, spaces.Dict):
        return lambda observation: rows(space, observation)
    return lambda observation: jnp.concatenate(
        [rows(part, observation[key]) for key, part in space.spaces.items()], axis=1
    )
