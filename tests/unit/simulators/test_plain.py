"""Plain-Python simulators as agents' worlds."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from pydantic import ValidationError

from drillyard.errors import ConfigError, RunFailed, SimulatorError
from drillyard.simulators.make import make_env
from drillyard.simulators.plain import PlainEnv, make_plain
from drillyard.simulators.wrappers import layers
from drillyard.spec.agent import AgentSpec
from drillyard.spec.learning import SimulatorSpec
from drillyard.testing.simulator_suite import SimulatorSuite

FOLDER = Path(__file__).parents[3] / "experiments" / "tank"
TABLE: dict[str, Any] = {
    "observes": {"x": {"min": 0, "max": 10, "unit": "m"}, "v": {"min": -1, "max": 1}},
    "acts": {"push": {"min": -2, "max": 2}},
    "reward": "-abs(x - 5)",
}


class Cart:
    """x moves by v; v is what it is pushed to. Wind where there is a generator."""

    def __init__(self, fault: str = "") -> None:
        self.fault, self.given = fault, []

    def reset(self, config: dict[str, Any], rng: Any = None) -> dict[str, Any]:
        self.x, self.v, self.n, self.rng = float(config.get("x", 5)), 0.0, 0, rng
        return self.see()

    def step(self, actions: dict[str, Any]) -> dict[str, Any]:
        self.given.append(actions)
        self.n += 1
        self.v = actions.get("push", 0.0)
        self.x += self.v + (0 if self.rng is None else self.rng.normal())
        if self.fault == "raises" and self.n == 3:
            raise ValueError("wheel lost")
        return self.see()

    def see(self) -> dict[str, Any]:
        states = {"x": self.x, "v": self.v, "n": self.n}
        if self.n == 3 and self.fault == "forgets":
            del states["v"]
        if self.n == 3 and self.fault == "silent":
            states.clear()
        if self.n == 3 and self.fault == "key":
            states["mass"] = states["mass"] + 1
        if self.n == 3 and self.fault == "nan":
            states["v"] = float("nan")
        return states

    def terminated(self) -> bool:
        return self.x < 0

    def truncated(self) -> bool:
        return self.n >= 20


class CartAgent:
    observes = TABLE["observes"]
    acts = TABLE["acts"]
    max_episode_steps = 7

    def reward(self, states: Any, terminated: bool, truncated: bool) -> dict[str, float]:
        return {"near": -abs(states["x"] - 5), "end": -10.0 * terminated}


def cart(**table: Any) -> PlainEnv:
    return make_plain(Cart(), AgentSpec.model_validate({**TABLE, **table}))


@pytest.fixture
def tank(monkeypatch):
    from drillyard.spec.load import load

    monkeypatch.syspath_prepend(str(FOLDER))
    # Another test of this process may have imported a module of this name from its own folder.
    monkeypatch.delitem(sys.modules, "tank", raising=False)
    spec = load(FOLDER / "tank.yaml").spec.simulator
    assert spec is not None
    return spec


class TestTank(SimulatorSuite):
    @pytest.fixture
    def make(self, tank):
        return lambda: layers(make_env(tank, training=False))[-1]


def test_states_are_scaled_clipped_and_counted():
    env = cart()
    check_env(env, skip_render_check=True)
    observation, info = env.reset(seed=1, options={"x": 5})
    assert observation.tolist() == [0.0, 0.0]
    assert info == {"state_x": 5.0, "state_v": 0.0}
    quiet = make_plain(Cart(), AgentSpec.model_validate(TABLE))
    quiet._takes_rng = False
    quiet.reset(options={"x": 9})
    observation, reward, _, _, info = quiet.step(np.array([1.0], np.float32))
    # x = 11 of 0 to 10 and v = 2 of -1 to 1: both are beyond their ranges.
    assert observation.tolist() == [1.0, 1.0]
    assert info["kpi_clipped"] == 2
    assert info["state_x"] == 11.0
    assert reward == -6.0


def test_actions_are_ranges_changes_or_choices():
    env = cart(
        acts={
            "a": {"min": 0, "max": 4},
            "b": {"min": 0, "max": 1, "change": 0.25},
            "x": {"min": 0, "max": 100, "change": 10},
            "c": {"min": 0, "max": 1, "change": 0.25, "start": 0.9},
        }
    )
    env.reset(options={"x": 5})
    for _ in range(2):
        env.step(np.array([0.0, 1.0, 1.0, 7.0], np.float32))
    first, second = env._simulator.given
    assert first == {"a": 2.0, "b": 0.75, "x": 15.0, "c": 1.0}
    assert second == {"a": 2.0, "b": 1.0, "x": 25.0, "c": 1.0}
    one = cart(acts={"mode": {"values": ["off", "on"]}})
    assert one.action_space == spaces.Discrete(2)
    two = cart(acts={"mode": {"values": ["off", "on"]}, "gear": {"values": [1, 2, 3]}})
    assert two.action_space == spaces.MultiDiscrete([2, 3])
    two.reset()
    two.step(np.array([1, 2]))
    assert two._simulator.given == [{"mode": "on", "gear": 3}]


def test_rewards_are_expressions_or_a_method():
    env = cart(reward={"near": "-abs(x - 5)", "end": "-10 * terminated", "late": "truncated"})
    env._takes_rng = False
    env.reset(options={"x": 1})
    _, reward, terminated, _, info = env.step(np.array([-1.0], np.float32))
    assert terminated
    assert reward == -16.0
    assert (info["reward_near"], info["reward_end"], info["reward_late"]) == (-6.0, -10.0, 0.0)
    mine = make_plain(Cart(), AgentSpec(id=f"{__name__}:CartAgent"))
    mine._takes_rng = False
    mine.reset(options={"x": 1})
    assert mine.step(np.array([-1.0], np.float32))[1] == -16.0
    assert mine.max_episode_steps == 7


def test_the_seed_reaches_the_simulators_generator():
    def walk(seed: int) -> list[float]:
        env = cart()
        env.reset(seed=seed)
        return [env.step(np.zeros(1, np.float32))[4]["state_x"] for _ in range(5)]

    assert walk(3) == walk(3) != walk(4)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("forgets", RunFailed, ["'v'", "step 3", "copy 2", "seed 9", "x, n"]),
        ("nan", RunFailed, ["'v' is nan", "step 3", "copy 2", "seed 9"]),
        ("raises", ValueError, ["wheel lost", "step 3", "copy 2", "seed 9"]),
        ("silent", RunFailed, ["it returned no states", "copy 2", "test_plain.py:", "in step"]),
        # A key that is not an action, in a function below `step`.
        ("key", RunFailed, ["KeyError: 'mass'", "test_plain.py:", "in see", "gives it push"]),
    ],
)
def test_what_a_simulator_does_wrong_is_placed(fault, kind, words):
    spec = SimulatorSpec.model_validate(
        {"id": f"{__name__}:Cart", "args": {"fault": fault}, "agent": TABLE}
    )
    env = make_env(spec, copy=2)
    env.reset(seed=9)
    with pytest.raises(kind) as caught:
        for _ in range(5):
            env.step(np.zeros(1, np.float32))
    said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    for word in words:
        assert word in said
    assert len(re.findall(r"test_plain\.py:\d+", said)) == 1
    assert "known: none" not in f"{said} {getattr(caught.value, 'hint', '')}"


def test_a_mistyped_name_is_told_with_the_one_that_was_meant():
    class Strict(Cart):
        def step(self, actions: dict[str, Any]) -> dict[str, Any]:
            return super().step({"push": actions["push"]})

    for table, words in (
        ({"reward": "-abs(xx - 5)"}, ["asks for 'xx'", "step 1", "did you mean 'x'"]),
        (
            {"acts": {"puhs": {"min": 0, "max": 1}}},
            ["'push'", "in step", "gives it puhs", "mean 'puhs'"],
        ),
    ):
        env = make_plain(Strict(), AgentSpec.model_validate(TABLE | table))
        env.reset(seed=9)
        with pytest.raises(RunFailed) as caught:
            env.step(np.zeros(1, np.float32))
        for word in words:
            assert word in f"{caught.value} {caught.value.hint}"


def test_units_belong_to_what_the_simulator_was_given():
    env = cart(acts={"push": {"min": -2, "max": 2, "unit": "N"}})
    assert env.metadata["units"] == {"state_x": "m", "state_v": "1", "state_push": "N"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observes": {}}, ["observes"]),
        ({"observes": {"x": {"min": 1, "max": 1}}}, ["min is not below max"]),
        ({"acts": {"a": {"min": 0}}}, ["min and max"]),
        ({"acts": {"a": {"min": 0, "max": 1}, "b": {"values": [1, 2]}}}, ["cannot be combined"]),
        ({"acts": {"a": {"min": 0, "max": 1, "start": 0.5}}}, ["`start`"]),
        ({"acts": {"a": {"values": [1]}}}, ["at least two"]),
        ({"reward": "__import__('os')"}, ["which is not allowed in a reward"]),
        ({"reward": "x +"}, ["is not a reward"]),
        (
            {"observes": {"x": {"min": 0, "max": 1, "reference": "wantd"}}, "logs": ["wanted"]},
            ["neither observed nor logged"],
        ),
        ({"id": "a:B"}, ["replaces the table"]),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(change, words):
    with pytest.raises(ValidationError) as caught:
        AgentSpec.model_validate({**TABLE, **change})
    for word in words:
        assert word in str(caught.value)


def test_what_does_not_fit_together_is_refused():
    def made(**parts: Any) -> Any:
        return make_env(SimulatorSpec.model_validate(parts))

    with pytest.raises(SimulatorError, match="plain simulator"):
        made(id=f"{__name__}:Cart")
    with pytest.raises(ConfigError, match=r"gymnasium\.Env, and this one is"):
        made(id="cstr", agent=TABLE)
    with pytest.raises(SimulatorError, match=r"no method reset"):
        made(id="fractions:Fraction", agent=TABLE)
    with pytest.raises(ConfigError, match="no reward"):
        made(id=f"{__name__}:Cart", agent="fractions:Fraction")
    with pytest.raises(ConfigError, match="no reset key 'y'"):
        made(id=f"{__name__}:Cart", agent={**TABLE, "resets": ["x"]}, lesson={"y": 1})
    spec = SimulatorSpec.model_validate({"id": f"{__name__}:Cart", "agent": TABLE})
    assert "agent" not in SimulatorSpec(id="cstr").model_dump()  # older records have no such key
    assert SimulatorSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_an_experiment_stores_and_reads_an_agent_that_is_a_class():
    spec = SimulatorSpec.model_validate({"id": "tank:Tank", "agent": "tank:TankAgent"})
    assert spec.agent is not None and spec.agent.id == "tank:TankAgent"
    assert SimulatorSpec.model_validate(spec.model_dump(mode="json")) == spec
