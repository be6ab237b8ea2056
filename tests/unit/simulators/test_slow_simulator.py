"""`check` gives a slow simulator fewer steps, and says so."""

import itertools
import time
from types import SimpleNamespace

import pytest

from drillyard.findings import Severity
from drillyard.simulators import check, stress_test
from drillyard.simulators.check import FEWEST, LONGEST_S, check_simulator
from drillyard.simulators.stress_test import try_limits
from drillyard.spec.learning import SimulatorSpec

WORLD = SimulatorSpec(id="tests.helpers.odd_worlds:World", args={"length": 10**9})


@pytest.fixture
def slow(monkeypatch):
    """Each look at the clock of these checks is half of the time that a way may take later."""
    seconds = itertools.count(0, LONGEST_S / 2)
    clock = SimpleNamespace(monotonic=lambda: next(seconds), perf_counter=time.perf_counter)
    monkeypatch.setattr(check, "time", clock)
    monkeypatch.setattr(stress_test, "time", clock)


@pytest.mark.usefixtures("slow")
def test_a_slow_simulator_is_given_fewer_steps():
    found = {f.subject: f for f in check_simulator(WORLD, speed=False)}
    trial = found["simulator: 50 random steps"]
    assert trial.severity is Severity.OK
    assert f"(it is slow: {FEWEST + 2} steps)" in trial.message
    # The second trial takes as many steps as the first, or it could not be compared.
    assert "two trials are equal" in found["simulator: same seed, same steps"].message


@pytest.mark.usefixtures("slow")
def test_its_limits_are_tried_in_fewer_steps_and_no_end_is_claimed_of_them():
    said = "; ".join(f.message for f in try_limits(WORLD))
    assert f"{FEWEST + 2} steps each (it is slow)" in said
    assert "never ends" not in said


def test_another_simulator_takes_all_its_steps():
    said = "; ".join(f.message for f in check_simulator(WORLD, speed=False))
    assert "slow" not in said
