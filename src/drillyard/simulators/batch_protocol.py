"""Simulators that step many copies at once over arrays, and one copy of such a one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np

from drillyard.errors import SimulatorError
from drillyard.registry import nearest
from drillyard.simulators.state import State, load_rng, rng_state


class VectorSimulator(Protocol):
    """n copies that share their arrays and nothing else; made with ``n`` and the arguments.

    A class of one copy names its vectorised sister as the attribute ``vectorised``; both must
    give the same steps from the same seeds.
    """

    observation_space: gym.Space[Any]
    """Of one copy."""
    action_space: gym.Space[Any]
    """Of one copy."""
    rngs: list[np.random.Generator]
    """A generator a copy, put there before ``begin``."""

    def begin(self, copy: int, options: Mapping[str, Any]) -> None:
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

    def observe(self) -> Any:
        """Observations of all copies, new arrays: (n, *shape), or a dict of such."""

    def info(self, copy: int) -> dict[str, Any]:
        """``info`` of one copy after its last step."""

    def state(self) -> State:
        """Arrays that the next steps depend on; not the generators."""

    def load_state(self, state: State) -> None:
        """Go on from a state."""


class OneOf(gym.Env[Any, Any]):
    """One copy of a vectorised simulator as a Gymnasium environment.

    Subclasses name the class and declare what Gymnasium and lessons want to know.
    """

    simulator: ClassVar[Any]
    """The vectorised class."""

    def __init__(self, render_mode: str | None = None, **args: Any) -> None:
        self.render_mode = render_mode
        self._all = self.simulator(1, **args)
        self.observation_space = self._all.observation_space
        self.action_space = self._all.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see the class for reset keys."""
        super().reset(seed=seed)
        self._all.rngs[0] = self.np_random
        self._all.begin(0, options or {})
        return first(self._all.observe()), self._all.info(0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step."""
        rewards, terminated, truncated = self._all.step(np.asarray(action)[np.newaxis])
        observation, info = first(self._all.observe()), self._all.info(0)
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def state(self) -> State:
        """Everything that the next steps depend on."""
        return {"all": self._all.state(), "rng": rng_state(self.np_random)}

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        load_rng(self.np_random, state["rng"])
        self._all.rngs[0] = self.np_random
        self._all.load_state(state["all"])


def first(observations: Any, copy: int = 0) -> Any:
    """The observation of one copy, as an array of its own."""
    if isinstance(observations, dict):
        return {key: value[copy].copy() for key, value in observations.items()}
    return observations[copy].copy()


def number_of(
    world: str,
    options: Mapping[str, Any],
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
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not low <= float(value) <= high:
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
