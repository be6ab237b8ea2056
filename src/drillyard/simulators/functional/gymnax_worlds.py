"""Worlds of gymnax 1.x: ``simulator.id: gymnax/CartPole-v1``. Imports gymnax when one is made.

Read against gymnax 1.0.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, nearest
from drillyard.simulators.batch_protocol import number_of
from drillyard.simulators.functional.protocol import FunctionalSimulator, Tree
from drillyard.simulators.state import State, load_rng, rng_state
from drillyard.simulators.types import Action, Info, Observation, Options, ResetResult
from drillyard.system.optional_packages import install

if TYPE_CHECKING:
    import jax

    from drillyard.simulators.functional.protocol import Stepped, Tree


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


PREFIX = "gymnax/"
_LARGEST = 1e9


class GymnaxWorld:
    """A gymnax environment, without its own beginning of the next episode.

    Args:
        name: Its name in gymnax.
        **args: Arguments of its class.
    """

    version: ClassVar[int] = 1
    double: ClassVar[bool] = False

    def __init__(self, name: str, **args: Json) -> None:
        import gymnax
        from gymnax.environments.spaces import gymnax_space_to_gym_space

        self._env, self._default = gymnax.make(name, **args)
        self.observation_space = gymnax_space_to_gym_space(
            self._env.observation_space(self._default)
        )
        self.action_space = gymnax_space_to_gym_space(self._env.action_space(self._default))
        limit = getattr(self._default, "max_steps_in_episode", None)
        self.max_episode_steps = None if limit is None else int(limit)
        self._numbers = _numbers(self._default)

    def params(self, options: Mapping[str, Json]) -> Tree:
        """See ``FunctionalSimulator.params``; reset keys are gymnax's parameters."""
        ranges = dict.fromkeys(self._numbers, (-_LARGEST, _LARGEST))
        whole = [name for name, value in self._numbers.items() if isinstance(value, int)]
        values = number_of("gymnax", options, ranges, self._numbers, whole)
        typed = {
            name: np.asarray(value, np.int32 if name in whole else np.float64)
            for name, value in values.items()
        }
        return self._default.replace(**typed)

    def reset(self, key: jax.Array, params: Tree) -> tuple[Tree, Tree]:
        """See ``FunctionalSimulator.reset``."""
        begun: tuple[Tree, Tree] = self._env.reset_env(key, params)
        return begun

    def step(self, key: jax.Array, state: Tree, action: jax.Array, params: Tree) -> Stepped:
        """See ``FunctionalSimulator.step``."""
        import jax.numpy as jnp

        seen, new, reward, terminated, info = self._env.step_env(key, state, action, params)
        over = jnp.bool_(self._env.is_truncated(new, params))
        return seen, new, jnp.asarray(reward), jnp.bool_(terminated), over, dict(info)


def _numbers(params: Any) -> dict[str, int | float]:
    """The parameters that are numbers; a lesson can draw these."""
    given = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {
        name: value
        for name, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def is_gymnax(id_: str) -> bool:
    """Returns whether an id names a world of gymnax."""
    return id_.startswith(PREFIX)


@cache
def gymnax_class(id_: str) -> type[OneFunctional]:
    """The class of one copy of a world.

    Args:
        id_: ``gymnax/CartPole-v1``.

    Raises:
        ConfigError: gymnax is not installed, or has no such world.
    """
    name = id_.removeprefix(PREFIX)
    if find_spec("gymnax") is None:
        raise ConfigError(
            "is an environment of gymnax, which is not installed here",
            field="simulator.id",
            value=id_,
            allowed="a simulator that is installed",
            hint=f"{install('gymnax')}, and write `requirements: [gymnax==1.0.1, "
            "gymnasium==1.3.0]`",
        )
    import gymnax

    known = list(gymnax.registered_envs)
    if name not in known:
        raise ConfigError(
            "gymnax has no such environment",
            field="simulator.id",
            value=id_,
            allowed=", ".join(PREFIX + each for each in known),
            hint=nearest(name, known),
        )
    _, default = gymnax.make(name)
    keys: Any = tuple(_numbers(default))
    form = partial(GymnaxWorld, name)
    return type(f"Gymnax{name}", (OneFunctional,), {"functional": form, "reset_keys": keys})
