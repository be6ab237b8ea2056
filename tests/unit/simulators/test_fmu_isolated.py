"""FMUs in a process of their own, and models that crash, hang or fail."""

from __future__ import annotations

import pytest

from drillyard.errors import (
    RunFailed,
)
from drillyard.simulators.fmu import isolated
from drillyard.simulators.wrappers import load_stack, silent_layers, stack_state
from tests.helpers.tanks import made, played

pytestmark = pytest.mark.heavy  # compiles models


def test_a_licence_that_is_not_free_costs_an_episode_of_its_isolated_copy(
    fmu, tmp_path, monkeypatch
):
    seat = tmp_path / "seat"
    monkeypatch.setenv("TANK_SEAT", str(seat))
    monkeypatch.setattr(isolated, "PAUSE_S", 0.0)
    with made(fmu("SEATS"), isolate=True, restarts_per_hour=1) as env:
        env.reset(seed=1)
        played(env, 2)
        seat.touch()
        # Another program gives its licence back while this copy waits.
        monkeypatch.setattr(isolated.time, "sleep", lambda _: seat.unlink(missing_ok=True))
        env.reset()
        assert played(env, 1)[0]["kpi_restarts"] == 1
        seat.touch()
        monkeypatch.setattr(isolated.time, "sleep", lambda _: None)
        with pytest.raises(RunFailed, match=r"lost 2 times within an hour.*cannot be started"):
            env.reset()
    with made(fmu("SEATS"), isolate=True) as env, pytest.raises(RunFailed, match="cannot be st"):
        env.reset(seed=1)  # at once: it has never worked


@pytest.mark.parametrize("macro", ["CRASHES_AT=4", "HANGS_AT=4"])
def test_a_crash_or_a_hang_of_an_isolated_model_costs_its_episode(fmu, macro):
    with made(fmu(macro), isolate=True, step_timeout_s=5.0) as env:
        env.reset(seed=1)
        *before, last = played(env)
        assert len(before) == 3 and last["ends"] == (False, True)
        assert last["kpi_restarts"] == 1
        _, info = env.reset()
        assert info["state_level"] == 1.0 and played(env, 2)[-1]["kpi_restarts"] == 0


def test_an_isolated_model_steps_as_in_process_and_its_process_is_replaced(fmu):
    name = fmu("LEAKS", once=True)
    with made(fmu("LEAKS", name="free.fmu")) as env:
        env.reset(seed=1)
        expected = [info["state_level"] for info in played(env, 30)]
    with made(name, restart_after=2) as first, made(name, restart_after=2) as second:
        assert silent_layers(first.env.env) == ["PlainEnv"], "one instance a process: isolated"
        first.reset(seed=1)
        assert [info["state_level"] for info in played(first, 30)] == expected
        for replaced in (0, 1, 0):
            first.reset()
            assert played(first, 2)[-1]["kpi_restarts"] == replaced
        saved = stack_state(first)
        expected_rest = played(first, 5)
        second.reset(seed=9)
        assert load_stack(second, saved) == ""
        assert [i["state_level"] for i in played(second, 5)] == [
            i["state_level"] for i in expected_rest
        ]


def test_nothing_is_called_after_a_fatal_error(fmu):
    with made(fmu("FATAL_AT=2"), isolate=True, on_error="cut") as env:
        env.reset(seed=1)
        assert played(env)[-1]["kpi_restarts"] == 1
        env.reset()
        assert played(env, 1)[-1]["kpi_restarts"] == 0, "its process ended"


def test_a_failing_isolated_model_says_so_by_name(fmu):
    with made(fmu("FAILS_AT=2"), isolate=True) as env:
        env.reset(seed=1)
        with pytest.raises(RunFailed, match=r"tank.fmu failed at 5 s .*on_error: cut"):
            played(env)
