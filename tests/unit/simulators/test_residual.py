"""The example of a learned correction: without a correction it is the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drillyard.agents.baselines import make_baseline
from drillyard.simulators.make import make_env
from drillyard.simulators.wrappers import load_stack, stack_state
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.import_path import importable

FOLDER = Path(__file__).parents[3] / "experiments" / "residual"
OPTIONS = {"Cref_signal": 2}


def episode(env: Any, act: Any, seed: int = 0) -> float:
    seen, _ = env.reset(seed=seed, options=OPTIONS)
    total, over = 0.0, False
    while not over:
        seen, reward, terminated, truncated, _ = env.step(act(seen))
        total, over = total + reward, terminated or truncated
    return total


def test_no_correction_is_the_controller() -> None:
    plain = make_env(SimulatorSpec(id="cstr"))
    controller = make_baseline("p-controller", plain)
    with importable(FOLDER):
        corrected = make_env(SimulatorSpec(id="cstr", wrappers=[{"name": "residual:Residual"}]))
        alone = episode(plain, controller.act)
        assert episode(corrected, lambda seen: np.zeros(1, np.float32)) == pytest.approx(alone)
        assert episode(corrected, lambda seen: np.full(1, 0.1, np.float32)) != alone


def test_its_state_is_all_that_the_next_steps_depend_on() -> None:
    with importable(FOLDER):
        spec = SimulatorSpec(id="cstr", wrappers=[{"name": "residual:Residual"}])
        one, other = make_env(spec), make_env(spec)
        one.reset(seed=1, options=OPTIONS)
        other.reset(seed=2)
        for _ in range(25):
            one.step(np.full(1, 0.05, np.float32))
        load_stack(other, stack_state(one))
        for _ in range(10):
            (a, *mine), (b, *theirs) = (e.step(np.zeros(1, np.float32)) for e in (one, other))
            assert np.array_equal(a, b) and mine[0] == theirs[0]
