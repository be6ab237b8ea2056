"""The contract of simulators, on the built-ins; and what `check` says of broken ones."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from drillyard.findings import Finding, Severity
from drillyard.simulators.building import BuildingEnv
from drillyard.simulators.check import check_env_contract, check_simulator
from drillyard.simulators.cstr import CstrEnv
from drillyard.simulators.simple_adder import SimpleAdderEnv
from drillyard.simulators.wrappers import EpisodeMonitor, LessonWrapper
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import Lesson
from drillyard.testing.simulator_suite import SimulatorSuite
from tests.helpers.steady_world import Steady

NOISY: Lesson = {"noise_percentage": {"min": 0, "max": 20}, "Cref_signal": {"values": [1, 2, 6]}}


@pytest.mark.parametrize("rule", ["held", "first-sub-interval"])
class TestCstr(SimulatorSuite):
    @pytest.fixture
    def make(self, rule):
        return lambda: CstrEnv(coolant_rule=rule)


@pytest.mark.parametrize("actions", ["discrete", "box"])
class TestSimpleAdder(SimulatorSuite):
    @pytest.fixture
    def make(self, actions):
        return lambda: SimpleAdderEnv(actions=actions)


@pytest.mark.parametrize("reward", ["linear", "exponential"])
class TestBuilding(SimulatorSuite):
    @pytest.fixture
    def make(self, reward):
        return lambda: BuildingEnv(days=1, reward=reward)


class TestCartPole(SimulatorSuite):
    @pytest.fixture
    def make(self):
        return lambda: gym.make("CartPole-v1", disable_env_checker=True)

    def test_no_check_finds_an_error(self, make):
        """Its infinite bounds are warned of, and nothing else."""
        (found,) = [f for f in check_env_contract(make()) if f.severity is not Severity.OK]
        assert found.severity is Severity.WARNING and "infinity" in found.message


class World(Steady):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def look(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


class NanAtSeven(World):
    def look(self) -> Any:
        seen = super().look()
        if self.n == 7:
            seen[1] = np.nan
        return seen


class WrongType(World):
    def look(self) -> Any:
        return super().look().astype(np.float64)


class WrongShapeLater(World):
    def look(self) -> Any:
        return super().look() if self.n < 5 else np.zeros(3, np.float32)


class Unseeded(World):
    def look(self) -> Any:
        return np.random.uniform(-1, 1, 2).astype(np.float32)


class Raises(World):
    def step(self, action: Any) -> Any:
        if self.n == 9:
            raise ValueError("valve stuck")
        return super().step(action)


class NanReward(World):
    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float("nan") if self.n == 3 else 0.0, *rest


class OldApi(World):
    def reset(self) -> Any:  # type: ignore[override]
        return np.zeros(2, np.float32)


class Image(World):
    observation_space = gym.spaces.Box(0, 1, (16, 16, 3), np.float32)

    def look(self) -> Any:
        return np.zeros((16, 16, 3), np.float32)


def findings(kind: type | str) -> list[Finding]:
    name = kind if isinstance(kind, str) else f"{__name__}:{kind.__name__}"
    return check_simulator(SimulatorSpec(id=name))


@pytest.mark.parametrize(
    ("kind", "severity", "words"),
    [
        (NanAtSeven, Severity.ERROR, ["step 7", "copy 0", "[1] is nan"]),
        (WrongType, Severity.ERROR, ["float64", "float32"]),
        (WrongShapeLater, Severity.ERROR, ["step 5", "(3,)", "(2,)"]),
        (Raises, Severity.ERROR, ["step 10", "ValueError: valve stuck"]),
        (NanReward, Severity.ERROR, ["step 3", "reward", "nan"]),
        (OldApi, Severity.ERROR, ["reset()"]),
        (Unseeded, Severity.WARNING, ["differ from"]),
        (Image, Severity.WARNING, ["(16, 16, 3)", "uint8"]),
    ],
)
def test_what_is_wrong_is_found_and_said(kind, severity, words):
    found = [f"{f.message}" for f in findings(kind) if f.severity is severity]
    assert any(all(word in text for word in words) for text in found), found


@pytest.mark.parametrize("name", ["cstr", "simple-adder", "CartPole-v1"])
def test_nothing_is_wrong_with_good_ones(name):
    found = findings(name)
    assert not [f for f in found if f.severity is Severity.ERROR]
    said = {f.subject: f.message for f in found}
    assert said["simulator: same seed, same steps"] == "two trials are equal"
    assert ("cannot be saved" in said["simulator: resume"]) == (name == "CartPole-v1")
    assert float(said["simulator: speed"].split()[0].replace(",", "")) > 100


def test_a_plain_simulator_that_cannot_be_saved_is_called_by_its_own_name():
    spec = SimulatorSpec.model_validate(
        {
            "id": "tests.unit.authoring.test_trying:Lift",
            "agent": {
                "observes": {"height": {"min": 0, "max": 9}},
                "acts": {"motor": {"min": -1, "max": 1}},
                "reward": "-abs(height - 3)",
            },
        }
    )
    said = {f.subject: f.message for f in check_simulator(spec)}
    assert said["simulator: resume"].startswith("Lift cannot be saved")


def test_the_wrappers_of_training_are_deterministic_too():
    suite = SimulatorSuite()

    def make() -> Any:
        return EpisodeMonitor(LessonWrapper(CstrEnv(), NOISY))

    suite.test_the_same_seed_gives_the_same_steps_in_another_copy(make)
    suite.test_two_copies_do_not_share_anything(make)
