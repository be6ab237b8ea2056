"""FMUs of our own as simulators: what is read, refused, stepped and saved."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from drillyard.errors import (
    RunFailed,
    SimulatorError,
)
from drillyard.simulators.check import check_env_contract, check_simulator
from drillyard.simulators.make import make_env
from drillyard.simulators.wrappers import load_stack, silent_layers, stack_state
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.tanks import AGENT, made, played, spec

pytestmark = pytest.mark.heavy  # compiles models


def test_a_model_is_stepped_in_its_own_units_from_the_values_of_a_lesson(fmu):
    with made(fmu()) as env:
        bad = [f for f in check_env_contract(env) if f.severity.value == "error"]
        assert not bad
        _, info = env.reset(seed=1, options={"level": 0.5, "area": 2.0})
        assert info["state_level"] == 0.5
        first = played(env, 1)[0]
        # 7.5 V give 0.015 m3/s, and the outlet takes 0.01 * sqrt(level).
        assert first["state_level"] == pytest.approx(0.5 + 5 * (0.015 - 0.00708) / 2, abs=2e-4)
        assert first["state_pump"] == 7.5
        assert first["reward"] == pytest.approx(-abs(first["state_level"] - 1))
        *_, last = played(env, 30)
        assert last["ends"] == (False, True)


@pytest.mark.parametrize(
    ("macros", "state", "args", "silent"),
    [
        ((), True, {}, []),
        ((), False, {}, ["PlainEnv"]),
        (("FORGETS",), True, {}, ["PlainEnv"]),
        ((), True, {"state": "replay"}, ["PlainEnv"]),
    ],
    ids=["own state", "no state", "incomplete state", "as asked"],
)
def test_a_resume_is_equal_to_the_last_bit(fmu, macros, state, args, silent):
    name = fmu(*macros, state=state)
    with made(name, **args) as first, made(name, **args) as second:
        assert silent_layers(first.env.env if silent else first) == silent
        first.reset(seed=3, options={"level": 0.3})
        played(first, 11)
        saved = stack_state(first)
        expected = played(first, 12, -0.3)
        second.reset(seed=9)
        assert load_stack(second, saved) == ""
        assert played(second, 12, -0.3) == expected


def test_check_says_that_a_state_is_incomplete_and_what_is_done_instead(fmu):
    findings = check_simulator(spec(fmu("FORGETS")), speed=False)
    (said,) = [f.message for f in findings if f.subject == "simulator: resume"]
    assert "its own state is incomplete: step 1 after the state was loaded differs" in said
    assert "a run replays the actions" in said


def test_the_test_of_a_state_goes_on_where_an_episode_ends_and_is_of_one_kind(fmu):
    name = fmu("FORGETS", kinds=("CoSimulation", "ModelExchange"))
    for kind, replays in (("model-exchange", False), ("co-simulation", True)):
        with made(name, kind=kind, ends="level > 0.5") as env:  # at the first step
            plant = env.unwrapped.simulator
            assert ("is incomplete" in plant.simulator_name) is replays


def test_sources_are_compiled_once(fmu, monkeypatch, tmp_path):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    name = fmu(name="sources.fmu", binary=False)
    with made(name) as env:
        env.reset(seed=1)
        expected = played(env)
    (kept,) = (tmp_path / "home" / "fmu").rglob("*.so")
    written = kept.stat().st_mtime_ns
    with made(name) as env:
        env.reset(seed=1)
        assert played(env) == expected
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("macro", "words"),
    [("NAN_AT=3", "level is nan"), ("FAILS_AT=3", r"fmi2DoStep failed with status 3")],
)
def test_a_model_that_fails_ends_the_run_by_name_or_only_the_episode(fmu, macro, words):
    name = fmu(macro, state=False)
    with made(name) as env:
        env.reset(seed=1)
        with pytest.raises(
            RunFailed, match=f"tank.fmu failed at 1[05] s of the model.*{words}"
        ) as e:
            played(env)
        assert "on_error: cut" in str(e.value.hint)
    with made(name, on_error="cut") as env:
        env.reset(seed=1)
        *before, last = played(env)
        assert last["ends"] == (False, True) and last["kpi_restarts"] == 1
        assert last["state_level"] == before[-1]["state_level"]
        _, info = env.reset()
        assert info["state_level"] == 1.0 and played(env, 1)[0]["kpi_restarts"] == 0


def test_a_model_that_ends_itself_and_a_condition_end_the_episode(fmu):
    with made(fmu("ENDS_AT=4", state=False)) as env:
        env.reset(seed=1)
        assert [info["ends"][0] for info in played(env)] == [False, False, False, True]
    with made(fmu("ENDS_AT=2", state=False), communication_s=1.0) as env:
        env.reset(seed=1)
        assert played(env)[0]["ends"] == (True, False)  # within the first step
    with made(fmu(), ends="level > 1.05") as env:
        env.reset(seed=1)
        *before, last = played(env, 30, 1.0)
        assert before and last["ends"] == (True, False) and last["state_level"] > 1.05


def test_communication_points_make_steps_finer_and_constants_hold(fmu):
    with made(fmu(), communication_s=1.0, start={"area": 4.0}, start_s=100.0) as env:
        env.reset(seed=1)
        fine = played(env, 1)[0]["state_level"]
    with made(fmu(), start={"area": 4.0}) as env:
        env.reset(seed=1)
        assert played(env, 1)[0]["state_level"] == pytest.approx(fine, abs=1e-4)


def test_a_lesson_replaces_a_constant_and_the_time_can_be_observed(fmu):
    agent = {"observes": {**AGENT["observes"], "time": {"min": 0, "max": 100}}, "logs": ["area"]}
    with made(fmu(), agent, start={"area": 4.0}, start_s=20.0) as env:
        _, info = env.reset(seed=1)
        assert (info["state_area"], info["state_time"]) == (4.0, 20.0)
        _, info = env.reset(options={"area": 2.0})
        assert info["state_area"] == 2.0
        assert played(env, 2)[-1]["state_time"] == 30.0


def test_an_agent_is_needed_and_the_command_that_writes_it_is_named(fmu):
    with pytest.raises(SimulatorError) as refusal:
        make_env(SimulatorSpec.model_validate({"id": fmu()}))
    assert "drillyard new simulator tank.fmu" in str(refusal.value.hint)


@pytest.mark.parametrize("solver", ["cvode", "euler"])
def test_model_exchange_agrees_with_co_simulation_and_meets_the_event(fmu, solver):
    both = ("CoSimulation", "ModelExchange")
    finer = {"communication_s": 0.05} if solver == "euler" else {"tolerance": 1e-8}
    with made(fmu("NO_WEAR", kinds=both), communication_s=0.05) as env:
        env.reset(seed=1)
        expected = [i["state_level"] for i in played(env, 30, 1.0)]
    with made(fmu("NO_WEAR", kinds=both), kind="model-exchange", solver=solver, **finer) as env:
        assert silent_layers(env) == []  # its own state is complete: each step begins the solver
        env.reset(seed=1)
        infos = played(env, 30, 1.0)
        assert [i["state_level"] for i in infos] == pytest.approx(expected, abs=2e-3)
        assert max(expected) == 2.0  # the tank is full
        played(env, 3, -1.0)


def test_a_clock_whose_ticks_are_rounded_otherwise_than_the_steps_loses_none(fmu):
    name = fmu("TICKS=0.1", kinds=("ModelExchange",))
    with made(name, {"logs": ["overflows"]}, step_s=1.0, communication_s=0.1) as env:
        env.reset(seed=1)
        ticks = [info["state_overflows"] for info in played(env, 4)]
    assert ticks == [10.0, 20.0, 30.0, 40.0]


def test_one_solver_serves_all_episodes_because_fmpy_frees_none(fmu):
    with made(fmu(kinds=("ModelExchange",))) as env:
        plant, solvers = env.unwrapped.simulator, set()
        for _ in range(2):
            env.reset(seed=1)
            solvers |= {instance._solver for instance in plant._instances.values()}
    assert len(solvers) == 1


def test_a_resume_of_model_exchange_is_equal_to_the_last_bit(fmu):
    name = fmu(kinds=("ModelExchange",))
    for how in ({}, {"state": "replay"}):
        with made(name, **how) as first, made(name, **how) as second:
            first.reset(seed=3)
            played(first, 7, 1.0)
            saved = stack_state(first)
            expected = played(first, 12, -0.3)
            second.reset(seed=9)
            assert load_stack(second, saved) == ""
            assert played(second, 12, -0.3) == expected


def cascade(fmu: Any, **args: Any) -> SimulatorSpec:
    file = fmu()
    agent = {
        "observes": {
            "second.level": {"min": 0, "max": 2, "unit": "m"},
            "up": {"min": 0, "max": 2},
        },
        "acts": {"pump": {"min": 0, "max": 10, "unit": "V"}},
        "reward": "-abs(up - 1)",
        "logs": ["second.outlet"],
        "resets": ["first.area"],
    }
    given = {
        "models": {"first": file, "second": file},
        "names": {"pump": "first.pump.voltage", "up": "first.level"},
        "connections": {"second.outlet": "first.flow"},
        "start": {"second.pump.voltage": 0},
        "step_s": 5,
        **args,
    }
    return spec("fmu", agent, **given)


def test_connected_models_are_stepped_and_resumed_together(fmu):
    with closing(make_env(cascade(fmu))) as first, closing(make_env(cascade(fmu))) as second:
        _, info = first.reset(seed=1, options={"first.area": 2.0})
        assert info["state_second.outlet"] == 0.0  # connected before the first step
        before = played(first, 3, 1.0)
        # The flow of the first empties the second.
        assert [i["state_up"] for i in before] == sorted(i["state_up"] for i in before)
        levels = [i["state_second.level"] for i in before]
        assert levels == sorted(levels, reverse=True) and levels[0] < 1
        saved = stack_state(first)
        expected = played(first, 4)
        second.reset(seed=2)
        assert load_stack(second, saved) == ""
        assert played(second, 4) == expected


def test_a_connection_of_two_units_or_of_no_input_is_refused(fmu):
    connections = {
        "two units: V of the input, m of first.level": {"second.pump.voltage": "first.level"},
        "is not an input": {"second.level": "first.level"},
        "is not a variable": {"second.pump.voltage": "third.level"},
    }
    for words, connection in connections.items():
        with pytest.raises(SimulatorError, match=words):
            make_env(cascade(fmu, connections=connection))


THREE: dict[str, Any] = {
    "observes": {"levels[1]": {"min": 0, "max": 2, "unit": "m"}, "low": {"min": 0, "max": 2}},
    "acts": {"inflow": {"min": 0, "max": 1}},
    "reward": "-abs(low - 1) - full",
    "logs": ["overflows", "valves[2]"],
    "resets": ["levels[2]", "area"],
    "max_episode_steps": 60,
}
ARRAYS = {"inflow": "valves[1]", "low": "levels[2]"}


@pytest.mark.parametrize("kind", ["co-simulation", "model-exchange"])
@pytest.mark.parametrize("state", [True, False])
def test_fmi_3_with_arrays_and_events(fmu, kind, state):
    name = fmu(source="tank3", state=state, kinds=("CoSimulation", "ModelExchange"))
    how = {"kind": kind, "names": ARRAYS, "start": {"valves[2]": 0.3}}
    with made(name, THREE, **how) as first, made(name, THREE, **how) as second:
        assert silent_layers(first.env if state else first.env.env) == (
            [] if state else ["PlainEnv"]
        )
        _, info = first.reset(seed=1, options={"levels[2]": 1.5, "area": 1.5})
        assert (info["state_levels[1]"], info["state_low"]) == (1.0, 1.5)
        infos = played(first, 50, 1.0)
        assert {i["state_valves[2]"] for i in infos} == {0.3}  # beside an action in one array
        levels = [i["state_levels[1]"] for i in infos]
        assert levels == sorted(levels) and infos[0]["state_low"] != 1.5
        if kind == "co-simulation":
            assert infos[-1]["state_overflows"] == 1.0 and levels[-1] == 2.0
        saved = stack_state(first)
        expected = played(first, 4, -0.5)
        second.reset(seed=2)
        assert load_stack(second, saved) == ""
        assert played(second, 4, -0.5) == expected


def test_an_event_of_fmi_3_ends_a_step_early_and_the_rest_of_it_follows(fmu, monkeypatch):
    from fmpy.fmi3 import FMU3Slave

    ends: list[list[float]] = []
    early: list[int] = []
    do_step = FMU3Slave.doStep

    def watched(*args: Any) -> Any:
        answer = do_step(*args)
        early[-1] += answer[2]
        return answer

    monkeypatch.setattr(FMU3Slave, "doStep", watched)
    for events in (True, False):
        name = fmu(source="tank3")
        how = {"names": ARRAYS, "start": {"valves[2]": 0.3}, "events": events}
        early.append(0)
        with made(name, THREE, **how) as env:
            env.reset(seed=1)
            ends.append([i["state_low"] for i in played(env, 60, 1.0)])
    assert ends[0] == pytest.approx(ends[1], abs=1e-2) and early == [1, 0]
