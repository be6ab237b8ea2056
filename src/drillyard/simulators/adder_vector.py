"""The adder, n copies at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from drillyard.documents.json_types import Json
from drillyard.simulators.simple_adder import (
    GOAL,
    STEPS,
    SimpleAdderEnv,
    addend,
    first_value,
    reward,
)
from drillyard.simulators.state import State
from drillyard.simulators.types import Info, Observation


class VecAdder:
    """See ``SimpleAdderEnv``."""

    def __init__(self, n: int, actions: str = "discrete") -> None:
        one = SimpleAdderEnv(actions)  # type: ignore[arg-type]  # it checks the form
        self.observation_space: spaces.Space[Observation] = one.observation_space
        self.action_space: spaces.Space[Observation] = one.action_space
        self.rngs = [np.random.default_rng(copy) for copy in range(n)]
        self._discrete = actions == "discrete"
        self._value, self._addend = np.zeros(n), np.zeros(n)
        self._steps = np.zeros(n, np.int64)

    def begin(self, copy: int, options: Mapping[str, Json]) -> None:
        """See ``VectorSimulator.begin``."""
        self._value[copy] = first_value(self.rngs[copy], options)
        self._addend[copy], self._steps[copy] = 0.0, 0

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``VectorSimulator.step``."""
        given = np.asarray(actions, np.float64).reshape(len(self._value), -1)[:, 0]
        self._addend = addend(given, self._discrete)
        self._value = self._value + self._addend
        self._steps += 1
        rewards = reward(self._value)
        return rewards, np.zeros(len(rewards), bool), self._steps >= STEPS

    def observe(self) -> dict[str, np.ndarray]:
        """See ``VectorSimulator.observe``."""
        return {"value": self._value[:, None].astype(np.float32)}

    def info(self, copy: int) -> Info:
        """See ``VectorSimulator.info``."""
        return {
            "state_value": float(self._value[copy]),
            "state_goal": GOAL,
            "state_addend": int(self._addend[copy]),
        }

    def state(self) -> State:
        """See ``VectorSimulator.state``."""
        return {
            "value": self._value.copy(),
            "addend": self._addend.copy(),
            "steps": self._steps.copy(),
        }

    def load_state(self, state: State) -> None:
        """See ``VectorSimulator.load_state``."""
        self._value, self._addend = np.array(state["value"]), np.array(state["addend"])
        self._steps = np.array(state["steps"], np.int64)
