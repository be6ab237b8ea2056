"""Random actions of simulators that say which actions are possible, and raise at others."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from drillyard.agents.baselines import Random
from drillyard.findings import Severity
from drillyard.learners import vec_mode
from drillyard.simulators.check import check_simulator
from drillyard.simulators.make import make_env
from drillyard.simulators.random_actions import drawn
from drillyard.simulators.stress_test import try_limits
from drillyard.spec import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from drillyard.workloads.rl import RlWorkload

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


class OnePossible(gymnasium.Env[Any, Any]):
    """One action in eight is possible, another one at each step; all others raise."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def action_masks(self) -> Any:
        return np.arange(8) == self.steps % 8

    def step(self, action: Any) -> Any:
        if not self.action_masks()[action]:
            raise ValueError(f"action {action} is impossible")
        self.steps += 1
        return np.full(1, self.steps / 20, np.float32), 1.0, False, self.steps >= 20, {}


def test_gymnasiums_checker_tries_possible_actions_only():
    found = check_simulator(SimulatorSpec(id=f"{__name__}:OnePossible"), speed=False)
    assert [f for f in found if f.severity is not Severity.OK] == []


def test_check_says_which_algorithm_keeps_to_the_masks():
    file = {
        "schema": 1,
        "name": "masked",
        "simulator": {"id": MASKED.id},
        "learner": {"algorithm": "ppo"},
        "train": {"steps": 2048, "n_envs": 1},
        "evaluate": {"episodes": 2},
        "seeds": [1],
    }
    spec = ExperimentSpec.model_validate(file)
    found = [f for f in RlWorkload().check(spec, None) if f.severity is Severity.WARNING]
    assert [f.subject for f in found if "maskable-ppo" in (f.fix or "")] == ["learner.algorithm"]
    masking = {**file, "learner": {"algorithm": "maskable-ppo"}}
    found = RlWorkload().check(ExperimentSpec.model_validate(masking), None)
    assert not [f for f in found if "maskable-ppo" in (f.fix or "")]


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
