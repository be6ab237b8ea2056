"""What a check does with simulators that refuse actions, give odd `info`, or are slow."""

from __future__ import annotations

import itertools
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from drillyard.agents.baselines import Random
from drillyard.findings import Severity
from drillyard.learners import vec_mode
from drillyard.simulators import stepping
from drillyard.simulators.check import check_simulator
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.random_actions import drawn
from drillyard.simulators.speed import measure_speed
from drillyard.simulators.stepping import FEWEST, LONGEST_S
from drillyard.simulators.stress_test import try_limits
from drillyard.spec.learning import SimulatorSpec
from drillyard.workloads.rl import RlWorkload
from tests.helpers.specs import small
from tests.helpers.steady_world import Steady

# -- Random actions of simulators that say which actions are possible, and raise at others ----


MASKED = SimulatorSpec(id="tests.helpers.resume_worlds:Masked")
MASK = [False, True, False, True, True]


@pytest.mark.parametrize(
    ("space", "mask", "possible"),
    [
        (spaces.Discrete(5, start=3), MASK, {(4,), (6,), (7,)}),
        (spaces.MultiDiscrete([2, 3]), MASK, {(1, 1), (1, 2)}),
        (
            spaces.MultiBinary(2),
            [True, True, False, True],
            {(0, 1), (1, 1)},
        ),
    ],
    ids=["discrete", "multi-discrete", "multi-binary"],
)
def test_all_possible_actions_are_drawn_and_no_others(space, mask, possible):
    space.seed(0)
    actions = [drawn(space, mask) for _ in range(60)]
    assert all(space.contains(action) for action in actions)
    assert {tuple(np.atleast_1d(action).tolist()) for action in actions} == possible


def test_without_masks_the_draws_are_those_of_the_space():
    ours, theirs = spaces.Discrete(9, seed=1), spaces.Discrete(9, seed=1)
    assert [drawn(ours, None) for _ in range(20)] == [theirs.sample() for _ in range(20)]


def test_check_finds_nothing_wrong_with_a_simulator_that_refuses_impossible_actions():
    found = [*check_simulator(MASKED), *try_limits(MASKED)]
    assert [f for f in found if f.severity is Severity.ERROR] == []


class OnePossible(Steady):
    """One action in eight is possible, another one at each step; all others raise."""

    action_space = spaces.Discrete(8)

    def action_masks(self) -> Any:
        return np.arange(8) == self.n % 8

    def look(self) -> Any:
        return np.full(1, self.n / 20, np.float32)

    def step(self, action: Any) -> Any:
        if not self.action_masks()[action]:
            raise ValueError(f"action {action} is impossible")
        return super().step(action)


def test_gymnasiums_checker_tries_possible_actions_only():
    found = check_simulator(SimulatorSpec(id=f"{__name__}:OnePossible"), speed=False)
    assert [f for f in found if f.severity is not Severity.OK] == []


def test_check_says_which_algorithm_keeps_to_the_masks():
    def warnings(algorithm: str) -> list[str]:
        spec = small(MASKED.id, learner={"algorithm": algorithm}, train={"steps": 2048})
        found = [f for f in RlWorkload().check(spec, None) if f.severity is Severity.WARNING]
        return [f.subject for f in found if "maskable-ppo" in (f.fix or "")]

    assert warnings("ppo") == ["learner.algorithm"]
    assert warnings("maskable-ppo") == []


@pytest.mark.heavy
def test_the_way_its_copies_are_stepped_is_measured_with_possible_actions():
    assert vec_mode.trace(MASKED, 2, "one-by-one", 40) is not None
    assert vec_mode._fastest(MASKED, 2, 10**9).how in ("one-by-one", "processes")


def test_the_baseline_random_keeps_to_the_masks():
    env = make_env(MASKED)
    baseline = Random(env)
    env.reset(seed=1)
    baseline.reset(1, {})
    for _ in range(30):
        if any(env.step(baseline.act(None))[2:4]):
            env.reset()


# -- Objects in `info` that cannot be copied: a training that never looks at them works -------


class Locked(Steady):
    """Returns a lock, and a list that it changes at each step."""

    def reset(self, **given: Any) -> Any:
        self.info: dict[str, Any] = {"lock": threading.Lock(), "steps": [0]}
        return super().reset(**given)[0], self.info

    def step(self, action: Any) -> Any:
        self.info["steps"][0] += 1
        return *super().step(action)[:4], self.info


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
    assert "; the 500 steps that a killed run repeats take " in measure_speed(LOCKED, 500).message


@pytest.mark.heavy
def test_copies_in_processes_step_too():
    venv = make_vec(LOCKED, 2, 1, how="processes")
    try:
        venv.reset()
        infos = venv.step(np.zeros(2, int))[3]
        assert [info["steps"] for info in infos] == [[1], [1]]
    finally:
        venv.close()


# -- `check` gives a slow simulator fewer steps, and says so ----------------------------------


WORLD = SimulatorSpec(id="tests.helpers.odd_worlds:World", args={"length": 10**9})


@pytest.fixture
def slow(monkeypatch):
    """Each look at the clock of these checks is half of the time that a way may take later."""
    seconds = itertools.count(0, LONGEST_S / 2)
    clock = SimpleNamespace(monotonic=lambda: next(seconds), perf_counter=time.perf_counter)
    monkeypatch.setattr(stepping, "time", clock)


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
