"""Simulators that step all copies at once: the same numbers as one after the other."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import ConfigError, CorruptObject, SimulatorError
from drillyard.simulators import cstr_compiled as columns
from drillyard.simulators.cstr_physics import growth, integrate
from drillyard.simulators.make_copies import can_vectorise, make_vec
from drillyard.simulators.sb3_vec_env import VectorisedEnv
from drillyard.simulators.vec_state import (
    load_normalisation,
    load_vec_state,
    normalisation,
    silent_layers,
    vec_state,
)
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.specs import small

REACTOR = {
    "id": "cstr",
    "lesson": {
        "Cref_signal": {"values": [0, 1, 2, 3, 4, 5, 6]},
        "noise_percentage": {"values": [0, 10]},
        "edo_solver_n_its": {"values": [1, 2, 3]},
        "step_time": {"min": 0.7, "max": 1.5},
        "transition_start": {"min": 0, "max": 60},
    },
}
WORLDS = {
    "cstr": REACTOR,
    "cstr-old-rule": {**REACTOR, "args": {"coolant_rule": "first-sub-interval"}},
    "adder": {"id": "simple-adder", "lesson": {"start": {"min": 0, "max": 100, "int": True}}},
    "adder-box": {"id": "simple-adder", "args": {"actions": "box"}},
    "cartpole": {"id": "CartPole-v1", "lesson": {"low": -0.1, "high": 0.2}},
    "building": {
        "id": "building",
        "args": {"days": 1, "reward": "exponential"},
        "lesson": {"day": {"min": 0, "max": 364, "int": True}},
    },
}


def spec(values: dict) -> SimulatorSpec:
    return SimulatorSpec.model_validate(values)


def actions(venv: Any, rng: np.random.Generator) -> Any:
    if isinstance(venv.action_space, gym.spaces.Discrete):
        return rng.integers(venv.action_space.n, size=venv.num_envs)
    return rng.uniform(-1.2, 1.2, (venv.num_envs, *venv.action_space.shape)).astype(np.float32)


def flat(value: Any) -> np.ndarray:
    return value["value"] if isinstance(value, dict) else value


@pytest.mark.parametrize("name", WORLDS)
def test_at_once_is_as_one_after_the_other(name):
    n = 9
    one, all_ = (
        make_vec(spec(WORLDS[name]), n, 5),
        make_vec(spec(WORLDS[name]), n, 5, how="vectorised"),
    )
    assert isinstance(all_, VectorisedEnv)
    assert flat(one.reset()) == pytest.approx(flat(all_.reset()), abs=1e-7)
    rng, ended = np.random.default_rng(1), 0
    for _ in range(260):
        given = actions(one, rng)
        seen, expected = all_.step(given), one.step(given)
        assert flat(seen[0]) == pytest.approx(flat(expected[0]), abs=1e-7)  # they are float32
        assert seen[1] == pytest.approx(expected[1], rel=1e-6, abs=1e-6)  # float32 too
        assert np.array_equal(seen[2], expected[2])
        for copy in np.flatnonzero(seen[2]):
            ended += 1
            ours, theirs = seen[3][copy], expected[3][copy]
            assert set(ours) == set(theirs)
            assert ours.get("lesson") == theirs.get("lesson")
            assert ours["episode"]["r"] == pytest.approx(theirs["episode"]["r"], rel=1e-9)
            numbers = {k: v for k, v in ours.items() if isinstance(v, float)}
            assert numbers == pytest.approx({k: theirs[k] for k in numbers}, rel=1e-9, abs=1e-9)
    assert ended >= n


def test_a_step_of_many_reactors_is_that_of_each_to_a_billionth():
    rng, n = np.random.default_rng(3), 150  # more than two blocks, the last one not full
    at = np.zeros((n, 13))
    at[:, columns.CR], at[:, columns.TR] = rng.uniform(0.5, 9.9, n), rng.uniform(290, 399, n)
    at[:, columns.TC], at[:, columns.STEP_TIME] = (
        rng.uniform(250, 350, n),
        rng.uniform(0.5, 1.5, n),
    )
    at[:, columns.N_ITS] = rng.integers(1, 4, n)
    before, changes = at.copy(), rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    columns.step(at, changes, np.zeros((n, 2)), False)
    for row, copy, change in zip(at, before, changes[:, 0], strict=True):
        cr, tr, parts = copy[columns.CR], copy[columns.TR], int(copy[columns.N_ITS])
        cap = int(10 * copy[columns.STEP_TIME])
        new = copy[columns.TC] + min(max(10 * float(change), -cap), cap)
        for part in range(parts):
            tc = new if part == 0 else copy[columns.TC]
            cr, tr = integrate(cr, tr, tc, copy[columns.STEP_TIME] / parts)
        found = row[[columns.CR, columns.TR, columns.TC]]
        assert found == pytest.approx([cr, tr, new], rel=1e-9, abs=1e-9)


def test_what_replaces_library_calls_is_as_exact():
    rng = np.random.default_rng(0)
    for x in (0.0, -1.0, 1.0, -708.0, 709.0, *rng.uniform(-100, 100, 500)):
        assert columns.exp(x) == pytest.approx(np.exp(x), rel=4e-16)
    assert columns.exp(800.0) == columns.exp(np.nan) == np.inf
    for error in (0.0, 1.0, *10.0 ** rng.uniform(-14, -2, 500)):
        assert columns.growth(error) == pytest.approx(growth(error), rel=4e-16)


@pytest.mark.parametrize("name", WORLDS)
def test_all_copies_go_on_in_mid_episode(name):
    values = {**WORLDS[name], "wrappers": ["normalize"]}
    one, two = (make_vec(spec(values), 4, seed, how="vectorised") for seed in (1, 2))
    assert not silent_layers(one)
    rng = np.random.default_rng(0)
    one.reset()
    for _ in range(133):
        one.step(actions(one, rng))
    state, statistics = vec_state(one), normalisation(one)
    assert state is not None
    assert statistics is not None
    two.reset()
    load_vec_state(two, state)
    load_normalisation(two, statistics)
    rest = [actions(one, rng) for _ in range(150)]
    assert repr([one.step(a) for a in rest]) == repr([two.step(a) for a in rest])
    other = make_vec(spec(values), 4, 1)
    with pytest.raises(CorruptObject, match="another way"):
        load_vec_state(other, state)
    with pytest.raises(CorruptObject, match="4 copies, not 3"):
        load_vec_state(make_vec(spec(values), 3, 1, how="vectorised"), state)


def test_what_stands_around_a_copy_needs_copies():
    from drillyard.workloads.rl import RlWorkload

    assert can_vectorise(spec({"id": "cstr", "wrappers": ["normalize"]}))
    assert not can_vectorise(spec({"id": "cstr", "wrappers": ["time_aware", "normalize"]}))
    assert can_vectorise(spec({"id": "CartPole-v1"}))
    assert not can_vectorise(spec({"id": "Pendulum-v1"}))

    def experiment(n_envs: int, **more: Any) -> ExperimentSpec:
        world = more.pop("id", "cstr")
        train = {"steps": 5000, "n_envs": n_envs, **more}
        return small(world, learner={"args": {"n_steps": 64}}, train=train)

    def choice(*args: Any, **more: Any) -> Any:
        return RlWorkload().freeze(experiment(*args, **more), 1).get("vectorised")

    assert (choice(8), choice(16)) == (None, True)
    assert choice(2, copies="vectorised") is True
    assert choice(64, copies="one-by-one") is None
    said = {f.subject: f.message for f in RlWorkload().check(experiment(16), None)}
    assert said["simulator: copies"] == "16 are stepped at once, over arrays"
    with pytest.raises(ConfigError, match="cannot step all copies at once"):
        RlWorkload().check(experiment(4, id="Pendulum-v1", copies="vectorised"), None)


BROKEN = {
    "rewards (4, 1) of float64": (np.zeros((4, 1)), np.zeros(4, bool), np.zeros(4, bool)),
    "rewards list": ([0.0] * 4, np.zeros(4, bool), np.zeros(4, bool)),
    "truncated (4,) of float64": (np.zeros(4), np.zeros(4, bool), np.zeros(4)),
    "2 values": (np.zeros(4), np.zeros(4, bool)),
    "(4,) of float64": np.zeros(4),
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_step_that_breaks_its_contract_is_named(said):
    venv = make_vec(spec({"id": "simple-adder"}), 4, 5, how="vectorised")
    venv.reset()
    venv._simulator.step = lambda actions: BROKEN[said]
    with pytest.raises(SimulatorError, match=f"step gave {re.escape(said)} at step 1") as raised:
        venv.step(actions(venv, np.random.default_rng(1)))
    assert "seeds 5 to 8" in str(raised.value)


def test_what_a_callback_asks_of_single_copies_is_refused_with_a_fix():
    venv = make_vec(spec(WORLDS["adder"]), 2, 1, how="vectorised")
    for ask in (lambda: venv.set_attr("goal", 3), lambda: venv.env_method("jump", 3)):
        with pytest.raises(ConfigError, match="the simulator is vectorised") as error:
            ask()
        assert error.value.field == "learner.callbacks"
        assert "train.copies: processes" in str(error.value.hint)
    venv.close()
