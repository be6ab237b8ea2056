"""Every step of every episode as files: their headers, their numbers, and that nothing is lost."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from drillyard.errors import ConfigError
from drillyard.metrics.step_csv import step_logs
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.vec_state import load_vec_state, silent_layers, vec_state
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.wrapper_catalogue import check_wrappers

LOG = {"name": "csv_logger"}


def world(**values: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate({"wrappers": [LOG, "normalize"], **values})


def play(venv: Any, steps: int, seed: int = 0) -> list[tuple[int, dict[str, Any]]]:
    rng, found = np.random.default_rng(seed), []
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (venv.num_envs, *venv.action_space.shape))
        _, _, dones, infos = venv.step(actions.astype(np.float32))
        found += [(int(c), infos[c]["log"]) for c in np.flatnonzero(dones)]
    return found


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def files():
    building = world(id="building", args={"days": 1}, lesson={"day": {"values": [31]}})
    venv = make_vec(building, 2, 3)
    venv.reset()
    logs = [(copy, json.loads(json.dumps(log, sort_keys=True))) for copy, log in play(venv, 192)]
    return dict(step_logs(logs, "building", 0.0))  # as they come back from a stream


def test_the_headers_are_those_that_other_tools_read(files):
    heads = {name: text.splitlines()[0] for name, text in files.items()}
    seen = (
        "hour_sin,hour_cos,year_sin,year_cos,outdoor,sun,indoor,people,comfort_low,"
        "comfort_high,heating,cooling"
    )
    monitor = (
        f"timestep,month,day,hour,{seen},time (seconds),reward,power_penalty,comfort_penalty,done"
    )
    for copy in (1, 2):
        assert heads.pop(f"building-res{copy}/monitor.csv") == monitor
        assert heads.pop(f"building-res{copy}/monitor_normalized.csv") == monitor
        assert heads.pop(f"building-res{copy}/progress.csv") == (
            "episode_num,cumulative_reward,mean_reward,cumulative_power_consumption,"
            "mean_power_consumption,cumulative_comfort_penalty,mean_comfort_penalty,"
            "cumulative_power_penalty,mean_power_penalty,comfort_violation (%),"
            "length(timesteps),time_elapsed(seconds)"
        )
    assert heads.pop("1970-01-01T00-00-00.csv") == (
        "episode_id,step_id,state,action,reward,terminated,truncated"
    )
    states = heads.pop("states.csv").split(",")
    assert states[-3:] == ["config_day", "EpisodeIndex", "IterationIndex"]
    assert {name.split("_")[0] for name in states[:-2]} == {"state", "action", "config"}
    assert not heads


def test_the_numbers_are_those_of_the_simulator(files):
    rows = table(files["building-res1/monitor.csv"])
    assert len(rows) == 2 * 97  # two days, each with the reset before it
    first, second, last = rows[0], rows[1], rows[96]
    assert (first["month"], first["day"], first["hour"]) == ("2", "1", "0")
    assert first["heating"] == first["reward"] == first["done"] == ""
    assert (second["time (seconds)"], last["done"], rows[97]["timestep"]) == ("900.0", "True", "0")
    assert 15.0 <= float(second["heating"]) <= 23.5
    assert float(second["indoor"]) == pytest.approx(21.0, abs=2.0)
    assert -1.0 <= float(table(files["building-res1/monitor_normalized.csv"])[1]["indoor"]) <= 1.0
    progress = table(files["building-res1/progress.csv"])
    assert [row["length(timesteps)"] for row in progress] == ["96", "96"]
    day = rows[1:97]
    total = sum(float(row["reward"]) for row in day)
    assert float(progress[0]["cumulative_reward"]) == pytest.approx(total)
    penalties = sum(float(r["power_penalty"]) + float(r["comfort_penalty"]) for r in day)
    assert total == pytest.approx(penalties)
    broken = 100 * sum(float(row["comfort_penalty"]) < 0 for row in day) / 96
    assert float(progress[0]["comfort_violation (%)"]) == pytest.approx(broken)
    assert progress[0]["time_elapsed(seconds)"] == "86400.0"
    path = table(files["1970-01-01T00-00-00.csv"])
    assert len(path) == 4 * 96
    assert len(json.loads(path[0]["state"])) == 10


def test_a_simulator_without_a_calendar_or_penalties_has_the_other_columns():
    venv = make_vec(
        world(
            id="cstr",
            wrappers=[
                {
                    "name": "csv_logger",
                    "args": {"files": ["monitor", "states"], "step_seconds": 60},
                }
            ],
        ),
        1,
        0,
    )
    venv.reset()
    found = dict(step_logs(play(venv, 91), "drillyard/Cstr-v0", 0.0))
    assert list(found) == [
        "drillyard-Cstr-v0-res1/monitor.csv",
        "drillyard-Cstr-v0-res1/monitor_normalized.csv",
        "drillyard-Cstr-v0-res1/progress.csv",
        "states.csv",
    ]
    monitor = found["drillyard-Cstr-v0-res1/monitor.csv"]
    assert monitor.splitlines()[0] == "timestep,Tr,Cr,Cref,Tc,Tc_adjust,time (seconds),reward,done"
    row = table(found["drillyard-Cstr-v0-res1/progress.csv"])[0]
    assert row["cumulative_power_consumption"] == row["comfort_violation (%)"] == ""
    states, steps = table(found["states.csv"]), table(monitor)
    assert float(states[4]["state_Tr"]) == pytest.approx(float(steps[5]["Tr"]), rel=1e-6)
    assert float(states[4]["action_Tc_adjust"]) == pytest.approx(
        float(states[4]["state_Tc_adjust"]), rel=1e-6
    )


def test_an_episode_that_was_resumed_is_logged_whole_and_once():
    one, two = (make_vec(world(id="simple-adder", args={"actions": "box"}), 2, s) for s in (1, 2))
    assert not silent_layers(one)
    one.reset()
    play(one, 4)
    state = vec_state(one)
    assert state is not None
    two.reset()
    load_vec_state(two, json.loads(json.dumps(state, default=lambda array: array.tolist())))
    logs = [play(venv, 6, seed=9) for venv in (one, two)]
    assert len(logs[0]) == 2
    assert [len(log["rows"]) for _, log in logs[0]] == [11, 11]
    assert repr(logs[0]) == repr(logs[1])


@pytest.mark.parametrize(
    ("wrappers", "why"),
    [
        (
            [LOG, {"name": "time_limit", "args": {"max_episode_steps": 5}}],
            "ends where the episode",
        ),
        (["rescale_action", LOG], "actions that the simulator itself"),
        ([{"name": "history"}, LOG], "what the simulator itself showed"),
        (["reward_scale", LOG], "was given and gave"),
        (["normalize", LOG], "around all copies"),
    ],
)
def test_a_log_stands_at_the_simulator(wrappers, why):
    with pytest.raises(ConfigError, match=why):
        check_wrappers(world(id="cstr", wrappers=wrappers))


def test_other_logs_and_times_are_refused():
    for args, what in (({"files": ["monitr"]}, "no such log"), ({"step_seconds": 0}, "is a time")):
        with pytest.raises(ConfigError, match=what):
            make_vec(world(id="cstr", wrappers=[{"name": "csv_logger", "args": args}]), 1, 0)
