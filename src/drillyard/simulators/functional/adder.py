"""The adder as pure functions, see ``drillyard.simulators.simple_adder.SimpleAdderEnv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drillyard.documents.json_types import Json
from drillyard.simulators.batch_protocol import number_of
from drillyard.simulators.functional.protocol import Stepped, Tree
from drillyard.simulators.simple_adder import (
    GOAL,
    START_HIGH,
    START_LOW,
    STEPS,
    SimpleAdderEnv,
    addend,
    reward,
)

_RANGES = {"start": (float(START_LOW), float(START_HIGH))}


class Episode(NamedTuple):
    """The parameters of an episode."""

    start: np.ndarray
    """NaN: a random integer."""


class State(NamedTuple):
    """What the next steps depend on."""

    value: jax.Array
    steps: jax.Array


class Adder:
    """See ``SimpleAdderEnv``.

    Args:
        actions: See there.
        render_mode: None.
    """

    version: ClassVar[int] = 1
    double: ClassVar[bool] = True

    def __init__(
        self, actions: Literal["discrete", "box"] = "discrete", render_mode: str | None = None
    ) -> None:
        one = SimpleAdderEnv(actions, render_mode)  # it checks the form
        self.observation_space, self.action_space = one.observation_space, one.action_space
        self.max_episode_steps: int | None = STEPS
        self._discrete = actions == "discrete"

    def params(self, options: Mapping[str, Json]) -> Episode:
        """See ``FunctionalSimulator.params``."""
        values = number_of("simple-adder", options, _RANGES, {"start": np.nan})
        return Episode(np.array(values["start"]))

    def reset(self, key: jax.Array, params: Episode) -> tuple[Tree, State]:
        """See ``FunctionalSimulator.reset``."""
        drawn = jax.random.randint(key, (), START_LOW, START_HIGH + 1).astype(params.start.dtype)
        state = State(jnp.where(jnp.isnan(params.start), drawn, params.start), jnp.int32(0))
        return _seen(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Episode) -> Stepped:
        """See ``FunctionalSimulator.step``."""
        del key, params
        added = addend(action if self._discrete else action[0], self._discrete, jnp)
        new = State(state.value + added.astype(state.value.dtype), state.steps + 1)
        info = {
            "state_value": new.value,
            "state_goal": jnp.full_like(new.value, GOAL),
            "state_addend": added,
        }
        over = new.steps >= STEPS
        return _seen(new), new, reward(new.value), jnp.bool_(False), over, info


def _seen(state: State) -> Tree:
    return {"value": state.value[None].astype(jnp.float32)}
