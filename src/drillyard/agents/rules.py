"""Rule-based baselines for the built-in simulators."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from drillyard.errors import SpaceMismatch
from drillyard.simulators.building import BuildingEnv
from drillyard.simulators.building_physics import COOLING_C, HEATING_C
from drillyard.simulators.simple_adder import GOAL, LARGEST_ADDEND, SimpleAdderEnv
from drillyard.simulators.wrappers import Env, layers


class _Stateless:
    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """It keeps nothing between steps."""


class ComfortBand(_Stateless):
    """A thermostat: heats below the comfort band, cools above it, 0.1 K inside.

    Raises:
        SpaceMismatch: The simulator is not ``building``.
    """

    def __init__(self, env: Env) -> None:
        _must_be(env, BuildingEnv, "comfort-band")

    def act(self, observation: Any) -> np.ndarray:
        """Both set points, scaled."""
        low, high = (15.0 + (float(v) + 1.0) / 2.0 * 15.0 for v in observation[8:10])
        set_points = ((low + 0.1, HEATING_C), (high - 0.1, COOLING_C))
        return np.array([2.0 * (t - a) / (b - a) - 1.0 for t, (a, b) in set_points], np.float32)


class TowardsGoal(_Stateless):
    """Adds the missing amount, up to the largest step; the optimum for ``simple-adder``.

    Raises:
        SpaceMismatch: The simulator is not ``simple-adder``.
    """

    def __init__(self, env: Env) -> None:
        _must_be(env, SimpleAdderEnv, "towards-goal")
        self._discrete = isinstance(env.action_space, spaces.Discrete)

    def act(self, observation: Any) -> Any:
        """The addend, in the form that the simulator takes."""
        missing = round(GOAL - float(observation["value"][0]))
        addend = min(max(missing, -LARGEST_ADDEND), LARGEST_ADDEND)
        if self._discrete:
            return addend + LARGEST_ADDEND
        return np.array([addend / LARGEST_ADDEND], np.float32)


def _must_be(env: Env, kind: type, name: str) -> None:
    if not isinstance(layers(env)[-1], kind):
        raise SpaceMismatch(
            f"baseline {name} is for {kind.__name__} only, not for {layers(env)[-1]}",
            hint=f"remove {name} from `baselines:`, or use your own module:Class",
        )
