"""What a functional simulator is: pure functions in the style of gymnax 1.x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import gymnasium as gym

from drillyard.documents.json_types import Json

if TYPE_CHECKING:
    import jax

Tree: TypeAlias = Any
"""A pytree of arrays: an array, or tuples and mappings of such."""
Stepped: TypeAlias = "tuple[Tree, Tree, jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]"


class FunctionalSimulator(Protocol):
    """One copy of a simulator as functions without side effects.

    ``reset`` and ``step`` are traced by JAX: they may use ``jax.numpy`` and ``jax.lax``, but no
    ``if`` over a number of the state.

    Unlike gymnax's ``step``, this one does not begin the next episode: drillyard does, with the
    options that the lesson draws for it.
    """

    version: ClassVar[int]
    """Goes up by one with each change of the numbers. Checkpoints and results record it."""
    double: ClassVar[bool]
    """Traced with 64-bit numbers enabled, so that float64 remains float64."""

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Space of the observations: Box, Discrete, MultiDiscrete, MultiBinary, a Dict of them."""

    @property
    def action_space(self) -> gym.Space[Any]:
        """Space of the actions."""

    @property
    def max_episode_steps(self) -> int | None:
        """Longest episode in steps, None where nothing bounds it. ``step`` has to truncate."""

    def params(self, options: Mapping[str, Json]) -> Tree:
        """The parameters of one episode, as NumPy arrays; not traced.

        Args:
            options: Reset keys, which a lesson draws.

        Returns:
            A tree whose structure, shapes and types are the same for all options.

        Raises:
            SimulatorError: An unknown key, or a value that is not allowed.
        """

    def reset(self, key: jax.Array, params: Tree) -> tuple[Tree, Tree]:
        """Begin an episode.

        Args:
            key: For everything that is random.
            params: See ``params``.

        Returns:
            Observation, and state.
        """

    def step(self, key: jax.Array, state: Tree, action: jax.Array, params: Tree) -> Stepped:
        """Do one step.

        Args:
            key: For everything that is random.
            state: From ``reset`` or ``step``.
            action: In the form of ``action_space``; a Box is already clipped.
            params: Those of this episode.

        Returns:
            Observation, state, reward, terminated, truncated, and ``info``: named numbers.
        """
