"""Objects in `info` that cannot be copied: a training that never looks at them works."""

from __future__ import annotations

import threading
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from drillyard.simulators.make import make_vec
from drillyard.simulators.speed import measure_speed
from drillyard.spec.learning import SimulatorSpec


class Locked(gymnasium.Env[Any, Any]):
    """Returns a lock, and a list that it changes at each step."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.info: dict[str, Any] = {"lock": threading.Lock(), "steps": [0]}
        return np.zeros(1, np.float32), self.info

    def step(self, action: Any) -> Any:
        self.info["steps"][0] += 1
        return np.zeros(1, np.float32), 1.0, False, self.info["steps"][0] >= 20, self.info


LOCKED = SimulatorSpec(id=f"{__name__}:Locked")


def test_everything_else_in_it_is_a_copy_of_its_step():
    venv = make_vec(LOCKED, 2, 1, how="one-by-one")
    venv.reset()
    first = venv.step(np.zeros(2, int))[3]
    second = venv.step(np.zeros(2, int))[3]
    assert [info["steps"] for info in (*first, *second)] == [[1], [1], [2], [2]]
    assert first[0]["lock"] is second[0]["lock"]
    venv.close()


def test_its_speed_is_measured():
    assert "steps/s" in measure_speed(LOCKED).message


@pytest.mark.heavy
def test_copies_in_processes_step_too():
    venv = make_vec(LOCKED, 2, 1, how="processes")
    try:
        venv.reset()
        infos = venv.step(np.zeros(2, int))[3]
        assert [info["steps"] for info in infos] == [[1], [1]]
    finally:
        venv.close()
