"""One copy of a functional simulator as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from drillyard.documents.json_types import Json
from drillyard.simulators.functional.protocol import FunctionalSimulator, Tree
from drillyard.simulators.state import State, load_rng, rng_state
from drillyard.simulators.types import Action, Info, Observation, Options, ResetResult


class OneFunctional(gym.Env[Observation, Action]):
    """Steps a form from the host. It imports JAX when it is made.

    Subclasses name the form, and what Gymnasium and lessons need.
    """

    functional: ClassVar[Callable[..., FunctionalSimulator]]
    """The form's class, or a function that makes it."""

    def __init__(self, render_mode: str | None = None, **args: Json) -> None:
        import jax

        self.render_mode = render_mode
        self._form = type(self).functional(**args)
        self.observation_space = self._form.observation_space
        self.action_space = self._form.action_space
        self.max_episode_steps = self._form.max_episode_steps
        self._reset, self._step = jax.jit(self._form.reset), jax.jit(self._form.step)
        self._options: Options = {}
        self._params: Tree = None
        self._state: Tree = None

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode; see the class for reset keys."""
        import jax

        super().reset(seed=seed)
        self._options = dict(options or {})
        self._params = self._form.params(self._options)
        with jax.enable_x64(self._form.double):
            observation, self._state = self._reset(self._key(), self._params)
        return self._seen(observation), {}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """Step."""
        import jax

        with jax.enable_x64(self._form.double):
            given = np.asarray(action)
            observation, new, reward, terminated, truncated, info = self._step(
                self._key(), self._state, given, self._params
            )
            cast = lambda leaf, old: np.asarray(leaf, np.asarray(old).dtype)  # noqa: E731
            self._state = jax.tree.map(cast, new, self._state)
        numbers = {name: float(value) for name, value in info.items() if np.ndim(value) == 0}
        return (
            self._seen(observation),
            float(reward),
            bool(terminated),
            bool(truncated),
            {f"state_{name}": value for name, value in numbers.items()},
        )

    def state(self) -> State:
        """Everything that the next steps depend on."""
        import jax

        leaves = [np.array(leaf) for leaf in jax.tree.leaves(self._state)]
        return {"leaves": leaves, "options": self._options, "rng": rng_state(self.np_random)}

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        import jax

        self.reset(options=dict(state["options"]))
        shape = jax.tree.structure(self._state)
        self._state = shape.unflatten([np.array(leaf) for leaf in state["leaves"]])
        load_rng(self.np_random, state["rng"])

    def _key(self) -> np.ndarray:
        drawn: np.ndarray = self.np_random.integers(0, 2**32, 2, np.uint32)
        return drawn

    def _seen(self, observation: Any) -> Observation:
        parts = getattr(self.observation_space, "spaces", None)
        if isinstance(parts, dict):
            return {key: np.asarray(observation[key], parts[key].dtype) for key in parts}
        return np.asarray(observation, self.observation_space.dtype)
