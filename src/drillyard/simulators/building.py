"""A building of one zone: keep people comfortable with little energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from gymnasium import spaces

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError
from drillyard.simulators import building_physics as physics
from drillyard.simulators.batch_protocol import OneOf, must_be_one_of, number_of
from drillyard.simulators.channels import Channel
from drillyard.simulators.state import State
from drillyard.simulators.types import Info

REWARDS = ("linear", "exponential")
CLOCKS = ("summed", "exact")
RANGES: dict[str, tuple[float, float]] = {
    "day": (0, 364),
    "temperature": (5.0, 40.0),
    "weather": (0.0, 3.0),
}
DEFAULTS = {"day": 0, "temperature": 21.0, "weather": 1.0}
LOW = np.array([-1, -1, -1, -1, -25.0, 0.0, 5.0, 0.0, 15.0, 15.0])
HIGH = np.array([1, 1, 1, 1, 45.0, 1000.0, 45.0, 1.0, 30.0, 30.0])
_SEEN = (
    "hour_sin",
    "hour_cos",
    "year_sin",
    "year_cos",
    "outdoor",
    "sun",
    "indoor",
    "people",
    "comfort_low",
    "comfort_high",
)
_UNITS = ("1", "1", "1", "1", "°C", "W/m²", "°C", "1", "°C", "°C")
_STATE = ("day", "indoor", "steps", "swings", "phases", "clear")
_SUMS = ("power", "energy", "comfort", "outside", "reward")


class VecBuilding:
    """n buildings; see ``BuildingEnv`` for what they are."""

    def __init__(
        self,
        n: int,
        days: int = 7,
        reward: str = "linear",
        energy_weight: float = 0.5,
        clock: str = "summed",
    ) -> None:
        must_be_one_of("clock", "clock", clock, CLOCKS)
        must_be_one_of("reward", "reward", reward, REWARDS)
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 365:
            raise ConfigError(
                "an episode has whole days",
                field="simulator.args.days",
                value=days,
                allowed="1 to 365",
                hint="write days: 7",
            )
        if not 0.0 <= energy_weight <= 1.0:
            raise ConfigError(
                "a share is expected",
                field="simulator.args.energy_weight",
                value=energy_weight,
                allowed="0 to 1",
                hint="0.5 weighs energy and comfort alike",
            )
        self.observation_space = spaces.Box(-1.0, 1.0, (10,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.max_episode_steps = days * physics.STEPS_PER_DAY
        self.rngs = [np.random.default_rng(copy) for copy in range(n)]
        self._exact = clock == "exact"
        self._exponential, self._weight = reward == "exponential", float(energy_weight)
        zeros = np.zeros(n)
        self._day, self._indoor, self._steps = zeros.copy(), zeros + 21.0, np.zeros(n, np.int64)
        self._swings, self._phases = np.zeros((n, 3)), np.zeros((n, 3))
        self._clear = np.ones(n)
        self._last = {name: zeros.copy() for name in (*_SUMS, "heating", "cooling")}
        self._sums = {name: zeros.copy() for name in _SUMS}

    def begin(self, copy: int, options: Mapping[str, Json]) -> None:
        """See ``VectorSimulator.begin``."""
        values = number_of("building", options, RANGES, DEFAULTS, ("day",))
        rng = self.rngs[copy]
        self._swings[copy] = values["weather"] * rng.normal(0.0, 1.5, 3)
        self._phases[copy] = rng.uniform(0.0, 2.0 * np.pi, 3)
        self._clear[copy] = 1.0 - min(values["weather"], 1.0) * rng.uniform(0.0, 0.8)
        self._day[copy], self._indoor[copy] = values["day"], values["temperature"]
        self._steps[copy] = 0
        for array in (*self._last.values(), *self._sums.values()):
            array[copy] = 0.0

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``VectorSimulator.step``."""
        heating, cooling = physics.set_points(actions.astype(np.float64))
        outside, radiation, people = self._weather()
        self._indoor, power = physics.let_pass(
            self._indoor, outside, radiation, people, heating, cooling
        )
        energy, comfort, beyond = physics.costs(
            self._day, self._indoor, power, self._weight, self._exponential
        )
        rewards = energy + comfort
        self._last = {
            "power": power,
            "energy": energy,
            "comfort": comfort,
            "reward": rewards,
            "outside": (beyond > 0).astype(np.float64),
            "heating": heating,
            "cooling": cooling,
        }
        for name in _SUMS:
            self._sums[name] = self._sums[name] + self._last[name]
        self._day = physics.after_a_step(self._day, self._exact)
        self._steps = self._steps + 1
        # A copy: `begin` sets what is kept of an ended episode to 0.
        return rewards.copy(), np.zeros(len(rewards), bool), self._steps >= self.max_episode_steps

    def observe(self) -> np.ndarray:
        """See ``VectorSimulator.observe``."""
        seen: np.ndarray = physics.seen(self._day, self._indoor, self._weather(), LOW, HIGH)
        return seen

    def info(self, copy: int) -> Info:
        """See ``VectorSimulator.info``."""
        outside, radiation, people = self._weather()
        low, high = physics.comfort(self._day)
        last, sums = self._last, self._sums
        steps = max(int(self._steps[copy]), 1)
        return {
            "state_indoor": float(self._indoor[copy]),
            "state_outdoor": float(outside[copy]),
            "state_sun": float(radiation[copy]),
            "state_occupied": float(people[copy]),
            "state_comfort_low": float(low[copy]),
            "state_comfort_high": float(high[copy]),
            "state_heating": float(last["heating"][copy]),
            "state_cooling": float(last["cooling"][copy]),
            "state_power": float(last["power"][copy]),
            "reward_energy": float(last["energy"][copy]),
            "reward_comfort": float(last["comfort"][copy]),
            "kpi_mean_reward": float(sums["reward"][copy]) / steps,
            "kpi_mean_power": float(sums["power"][copy]) / steps,
            "kpi_cumulative_power": float(sums["power"][copy]),
            "kpi_mean_comfort_penalty": float(sums["comfort"][copy]) / steps,
            "kpi_cumulative_comfort_penalty": float(sums["comfort"][copy]),
            "kpi_mean_power_penalty": float(sums["energy"][copy]) / steps,
            "kpi_cumulative_power_penalty": float(sums["energy"][copy]),
            "kpi_comfort_violation_pct": 100.0 * float(sums["outside"][copy]) / steps,
        }

    def calendar(self, copy: int) -> dict[str, int]:
        """Month, day and hour of a copy."""
        return physics.calendar(float(self._day[copy]))

    def state(self) -> State:
        """See ``VectorSimulator.state``."""
        return {
            **{name: getattr(self, f"_{name}").copy() for name in _STATE},
            "last": {name: array.copy() for name, array in self._last.items()},
            "sums": {name: array.copy() for name, array in self._sums.items()},
        }

    def load_state(self, state: State) -> None:
        """See ``VectorSimulator.load_state``."""
        for name in _STATE:
            setattr(self, f"_{name}", np.array(state[name]))
        self._steps = np.array(state["steps"], np.int64)
        self._last = {name: np.array(array) for name, array in state["last"].items()}
        self._sums = {name: np.array(array) for name, array in state["sums"].items()}

    def _weather(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        outside = physics.outdoor(self._day, self._swings, self._phases)
        people = physics.occupied(self._day, self._exact)
        return outside, physics.sun(self._day, self._clear), people


class BuildingEnv(OneOf):
    """The building as a Gymnasium environment. A step is 15 minutes.

    Observation, ``(10,)`` float32, scaled to [-1, 1] and clipped:

    | index | meaning                             | min | max  | unit  |
    |-------|-------------------------------------|-----|------|-------|
    | 0, 1  | hour of the day, sine and cosine    | -1  | 1    | 1     |
    | 2, 3  | day of the year, sine and cosine    | -1  | 1    | 1     |
    | 4     | temperature outside                 | -25 | 45   | °C    |
    | 5     | sun on the windows                  | 0   | 1000 | W/m²  |
    | 6     | temperature inside                  | 5   | 45   | °C    |
    | 7     | occupied                            | 0   | 1    | 1     |
    | 8, 9  | comfort band, lower and upper end   | 15  | 30   | °C    |

    Action, ``(2,)`` float32 in [-1, 1]; the cooling set point is never below the heating one:

    | index | meaning                             | -1   | 1    | unit |
    |-------|-------------------------------------|------|------|------|
    | 0     | set point below which is heated     | 15   | 23.5 | °C   |
    | 1     | set point above which is cooled     | 22   | 30   | °C   |

    Reward, with w the energy weight, P the power in W, d the degrees outside the comfort band
    (20 to 23.5 °C; 23 to 26 °C from 1 June to 30 September):
    ``linear``: ``-w 1e-4 P - (1 - w) d``; ``exponential``: exp(d) in place of d where d > 0.

    Never terminated; truncated after ``days``.

    Reset keys: ``day`` of the year on which the episode begins, 0 to 364 (0); ``temperature``
    inside, 5 to 40 °C (21); ``weather``, strength of its disturbances, 0 to 3 (1).

    ``info`` has ``state_…`` of all the above, the reward's terms ``reward_energy`` and
    ``reward_comfort``, and the episode's ``kpi_…`` so far: mean and cumulative power (W),
    both penalties, and ``kpi_comfort_violation_pct``, the share of steps outside the band (%).

    Args:
        days: Length of an episode, 1 to 365.
        reward: ``linear`` or ``exponential``.
        energy_weight: w, 0 to 1.
        clock: ``exact`` counts quarters of an hour. ``summed`` adds up fractions of a day, as
            drillyard always did: their errors move the comfort band and the occupancy to a
            quarter of an hour later on some days. A new experiment gets ``exact`` where its
            file names none; one that was begun without it keeps ``summed`` and its numbers.

    Version history: v0, the first. Its functional form (``copies: compiled``) has versions of its
    own: 1, the first, whose weather comes from another generator.
    """

    _all: VecBuilding
    simulator = VecBuilding
    vectorised = VecBuilding
    functional = "drillyard.simulators.functional.building:Building"
    metadata: ClassVar[JsonObject] = {  # type: ignore[misc]
        "render_modes": [],
        "units": {
            "state_indoor": "°C",
            "state_outdoor": "°C",
            "state_sun": "W/m²",
            "state_comfort_low": "°C",
            "state_comfort_high": "°C",
            "state_heating": "°C",
            "state_cooling": "°C",
            "state_power": "W",
        },
        "reference": {"state_indoor": "state_comfort_low"},
        "actions": ["heating", "cooling"],
    }
    reset_keys: ClassVar[tuple[str, ...]] = tuple(RANGES)
    hold_action = np.array([0.0, 0.0], np.float32)
    step_seconds = physics.STEP_S
    """Simulated; for logs."""

    @staticmethod
    def channels() -> dict[str, list[Channel]]:
        """See the tables above."""
        seen = zip(_SEEN, _UNITS, LOW, HIGH, strict=True)
        done = (("heating", physics.HEATING_C), ("cooling", physics.COOLING_C))
        return {
            "observation": [Channel(n, unit, float(a), float(b)) for n, unit, a, b in seen],
            "action": [Channel(name, "°C", *ends) for name, ends in done],
        }

    def __init__(
        self,
        days: int = 7,
        reward: str = "linear",
        energy_weight: float = 0.5,
        render_mode: str | None = None,
        clock: str = "summed",
    ) -> None:
        super().__init__(
            render_mode, days=days, reward=reward, energy_weight=energy_weight, clock=clock
        )
        self.max_episode_steps = self._all.max_episode_steps

    def calendar(self) -> dict[str, int]:
        """Month, day and hour, for logs."""
        return self._all.calendar(0)
