"""Simulators that step many copies at once over arrays, and one copy of such a simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

import gymnasium as gym
import numpy as np

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, SimulatorError, nearest
from drillyard.simulators.state import State, load_rng, rng_state
from drillyard.simulators.types import Action, Batch, Env, Info, Observation, Options, ResetResult


class VectorSimulator(Protocol):
    """n copies that share their arrays and nothing else; made with ``n`` and the arguments.

    A class of one copy names its vectorised counterpart in the attribute ``vectorised``; both must
    take the same steps from the same seeds.
    """

    rngs: list[np.random.Generator]
    """One generator for each copy, set before ``begin``."""

    @property
    def observation_space(self) -> gym.Space[Observation]:
        """Space of one copy's observations."""

    @property
    def action_space(self) -> gym.Space[Action]:
        """Space of one copy's actions."""

    def begin(self, copy: int, options: Mapping[str, Json]) -> None:
        """Begin an episode in one copy.

        Raises:
            SimulatorError: An unknown key, or a value that is not allowed.
        """

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step all copies.

        Args:
            actions: (n, *shape of an action).

        Returns:
            Rewards (n,) float64, terminated (n,) bool, truncated (n,) bool.
        """

    def observe(self) -> Batch:
        """Observations of all copies, new arrays: (n, *shape), or a dict of such."""

    def info(self, copy: int) -> Info:
        """``info`` of one copy after its last step."""

    def state(self) -> State:
        """Arrays that the next steps depend on; not the generators."""

    def load_state(self, state: State) -> None:
        """Continues from a state."""


class OneOf(Env):
    """One copy of a vectorised simulator as a Gymnasium environment.

    Subclasses name the class and declare what Gymnasium and lessons need.
    """

    simulator: ClassVar[Callable[..., VectorSimulator]]
    """The vectorised class."""

    def __init__(self, render_mode: str | None = None, **args: Json) -> None:
        self.render_mode = render_mode
        self._all = self.simulator(1, **args)
        self.observation_space = self._all.observation_space
        self.action_space = self._all.action_space

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode; see the class for reset keys."""
        super().reset(seed=seed)
        self._all.rngs[0] = self.np_random
        self._all.begin(0, options or {})
        return first(self._all.observe()), self._all.info(0)

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """Step."""
        rewards, terminated, truncated = self._all.step(np.asarray(action)[np.newaxis])
        observation, info = first(self._all.observe()), self._all.info(0)
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def state(self) -> State:
        """Everything that the next steps depend on."""
        return {"all": self._all.state(), "rng": rng_state(self.np_random)}

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        load_rng(self.np_random, state["rng"])
        self._all.rngs[0] = self.np_random
        self._all.load_state(state["all"])


def first(observations: Batch, copy: int = 0) -> Observation:
    """The observation of one copy, as an array of its own."""
    if isinstance(observations, dict):
        return {key: value[copy].copy() for key, value in observations.items()}
    observation: np.ndarray = observations[copy].copy()
    return observation


def must_be_one_of(what: str, argument: str, value: str, known: Sequence[str]) -> None:
    """Refuses an argument of a simulator that is none of its values.

    Raises:
        ConfigError: With the nearest value.
    """
    if value not in known:
        field = f"simulator.args.{argument}"
        raise ConfigError(f"unknown {what}", field=field, value=value, known=known)


def number_of(
    world: str,
    options: Mapping[str, Json],
    ranges: Mapping[str, tuple[float, float]],
    defaults: Mapping[str, float],
    integers: Sequence[str] = (),
) -> dict[str, float]:
    """Reset values: what the options say, else the defaults.

    Args:
        world: Name of the simulator, for messages.
        options: As ``reset`` was given them.
        ranges: Key -> smallest and largest value.
        defaults: Key -> value.
        integers: Keys that take integers only.

    Raises:
        SimulatorError: An unknown key, or a value that is not allowed; names both.
    """
    values = dict(defaults)
    for key, value in options.items():
        if key not in ranges:
            raise SimulatorError(
                f"{world} has no reset key {key!r}", hint=nearest(key, list(ranges))
            )
        low, high = ranges[key]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.number)
            or not low <= float(value) <= high
        ):
            raise SimulatorError(
                f"{world}: reset key {key} is {value!r}; allowed: {low} to {high}"
            )
        if key in integers and float(value) != int(value):
            raise SimulatorError(
                f"{world}: reset key {key} is {value!r}; an integer is expected",
                hint=f"in a lesson, list them: {key}: {{values: [1, 2, 3]}}",
            )
        values[key] = int(value) if key in integers else float(value)
    return values
