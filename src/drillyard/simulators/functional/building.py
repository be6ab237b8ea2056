"""The building as pure functions, see ``drillyard.simulators.building.BuildingEnv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drillyard.documents.json_types import Json
from drillyard.simulators import building_physics as physics
from drillyard.simulators.batch_protocol import number_of
from drillyard.simulators.building import DEFAULTS, HIGH, LOW, RANGES, VecBuilding
from drillyard.simulators.functional.protocol import Stepped


class Episode(NamedTuple):
    """The parameters of an episode, see ``BuildingEnv``."""

    day: np.ndarray
    temperature: np.ndarray
    weather: np.ndarray


class State(NamedTuple):
    """What the next steps depend on."""

    day: jax.Array
    indoor: jax.Array
    steps: jax.Array
    swings: jax.Array
    phases: jax.Array
    clear: jax.Array


class Building:
    """See ``BuildingEnv``.

    Args:
        days: See there.
        reward: See there.
        energy_weight: See there.
        render_mode: None.
        clock: See there.
    """

    version: ClassVar[int] = 1
    double: ClassVar[bool] = True

    def __init__(
        self,
        days: int = 7,
        reward: str = "linear",
        energy_weight: float = 0.5,
        render_mode: str | None = None,
        clock: str = "summed",
    ) -> None:
        del render_mode
        one = VecBuilding(1, days, reward, energy_weight, clock)  # it checks the arguments
        self.observation_space, self.action_space = one.observation_space, one.action_space
        self.max_episode_steps: int | None = one.max_episode_steps
        self._exact, self._exponential = clock == "exact", reward == "exponential"
        self._weight = float(energy_weight)

    def params(self, options: Mapping[str, Json]) -> Episode:
        """See ``FunctionalSimulator.params``."""
        values = number_of("building", options, RANGES, DEFAULTS, ("day",))
        return Episode(*np.array(list(values.values()), np.float64))

    def reset(self, key: jax.Array, params: Episode) -> tuple[jax.Array, State]:
        """See ``FunctionalSimulator.reset``."""
        dtype, keys = params.day.dtype, jax.random.split(key, 3)
        cloudy = jnp.minimum(params.weather, 1.0) * jax.random.uniform(
            keys[2], (), dtype, 0.0, 0.8
        )
        state = State(
            params.day,
            params.temperature,
            jnp.int32(0),
            params.weather * 1.5 * jax.random.normal(keys[0], (3,), dtype),
            jax.random.uniform(keys[1], (3,), dtype, 0.0, 2.0 * np.pi),
            1.0 - cloudy,
        )
        return self._seen(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Episode) -> Stepped:
        """See ``FunctionalSimulator.step``."""
        del key, params
        heating, cooling = physics.set_points(action.astype(state.day.dtype), jnp)
        indoor, power = physics.let_pass(
            state.indoor, *self._weather(state), heating, cooling, jnp
        )
        energy, comfort, beyond = physics.costs(
            state.day, indoor, power, self._weight, self._exponential, jnp
        )
        new = state._replace(
            day=physics.after_a_step(state.day, self._exact, jnp),
            indoor=indoor,
            steps=state.steps + 1,
        )
        info = {
            "state_indoor": indoor,
            "state_heating": heating,
            "state_cooling": cooling,
            "state_power": power,
            "reward_energy": energy,
            "reward_comfort": comfort,
            "outside": beyond,
        }
        over = new.steps >= self.max_episode_steps
        return self._seen(new), new, energy + comfort, jnp.bool_(False), over, info

    def _weather(self, state: State) -> tuple[jax.Array, jax.Array, jax.Array]:
        return (
            physics.outdoor(state.day, state.swings, state.phases, jnp),
            physics.sun(state.day, state.clear, jnp),
            physics.occupied(state.day, self._exact, jnp),
        )

    def _seen(self, state: State) -> jax.Array:
        low, high = LOW.astype(state.day.dtype), HIGH.astype(state.day.dtype)
        weather = self._weather(state)
        seen: jax.Array = physics.seen(state.day, state.indoor, weather, low, high, jnp)
        return seen
