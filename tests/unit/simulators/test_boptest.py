"""Test cases of BOPTEST, on the stand-in for its service that the example has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML

from drillyard.cli.main import main
from drillyard.errors import RunFailed, SimulatorError
from drillyard.simulators.check import check_simulator
from drillyard.simulators.make import make_env
from drillyard.simulators.replay_probe import probe
from drillyard.spec.learning import SimulatorSpec
from experiments.boptest import service
from tests.helpers.patience import PATIENCE_S

pytestmark = pytest.mark.heavy

AGENT = {
    "observes": {"room": {"min": 280, "max": 300, "unit": "K"}},
    "acts": {"pump": {"min": 0, "max": 1}},
    "reward": "-abs(room - 294) - cost_tot",
    "resets": ["start_time_s"],
}
NAMES = {"room": "reaTZon_y", "pump": "oveHeaPumY_u"}


@pytest.fixture
def server():
    service.Service.tests = {}
    one = service.serving(0)
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def made(server, monkeypatch):
    monkeypatch.setattr("drillyard.simulators.boptest._LOOK_S", 0.001)
    opened: list[Any] = []

    def make(agent: dict[str, Any] | None = None, **args: Any) -> Any:
        opened.append(make_env(spec(server, agent, **args)))
        return opened[-1]

    yield make
    for env in opened:
        env.close()


def spec(server: Any, agent: dict[str, Any] | None = None, **args: Any) -> SimulatorSpec:
    url = f"http://127.0.0.1:{server.server_port}" if server else ""
    given = {"url": url, "names": NAMES, **args}
    given = {"testcase": service.CASE, "step_timeout_s": PATIENCE_S, **given}
    tree = {"id": "boptest", "args": given, "agent": {**AGENT, **(agent or {})}}
    return SimulatorSpec.model_validate(tree)


def played(env: Any, steps: int = 3, **options: float) -> list[float]:
    env.reset(seed=1, options=options or {"start_time_s": 864_000.0})
    action = np.array([0.5], np.float32)
    return [float(env.step(action)[4]["state_room"]) for _ in range(steps)]


def test_an_episode_begins_where_the_lesson_says_and_repeats_to_the_last_bit(made, server):
    env = made(step_s=1800)
    first = played(env)
    assert len(set(first)) == 3 and played(env) == first
    assert played(env, start_time_s=15_552_000.0) != first
    test = next(iter(service.Service.tests.values()))
    assert test.time == 15_552_000 + 3 * 1800 and test.power == pytest.approx(3750, rel=0.01)
    result = probe(spec(server))
    assert result is not None and result.difference == ""
    env.close()
    assert not service.Service.tests  # the workers of the service are free again


def test_a_service_is_started_once_for_a_copy_and_knows_its_number():
    folder = Path(service.__file__).parent
    args = {"url": "http://127.0.0.1:{port}", "start_timeout_s": PATIENCE_S}
    args["command"] = f"python {folder / 'service.py'} {{port}} copy-{{copy}}"
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    env = make_env(spec(None, **args), copy=1)
    try:
        lines = [c.cmdline() for c in psutil.Process().children() if c.pid not in before]
        assert [line[-1] for line in lines if "copy-" in line[-1]] == ["copy-1"]
    finally:
        env.close()


def test_a_service_with_one_place_is_enough_for_a_check(server, made):
    one = spec(server, step_timeout_s=PATIENCE_S, start_timeout_s=5.0)
    most, select = [0], service.Test.__init__

    def counted(self: Any) -> None:
        most[0] = max(most[0], len(service.Service.tests) + 1)
        select(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.Test, "__init__", counted)
        findings = check_simulator(one, speed=False)
    assert not [f for f in findings if f.severity.value == "error"]
    assert most == [1]


def test_a_scenario_ends_the_episode_with_its_period(made):
    env = made(scenario={"time_period": "peak_heat_day"}, step_s=7 * 86_400)
    env.reset(seed=1)
    ends = [env.step(np.array([0.0], np.float32))[3] for _ in range(3)]
    assert ends == [False, False, True]


@pytest.mark.parametrize(
    ("agent", "args", "expected"),
    [
        ({}, {"names": {**NAMES, "room": "reaTZone_y"}}, "did you mean 'reaTZon_y'"),
        ({}, {"names": {**NAMES, "pump": "reaTZon_y"}}, "cannot be set"),
        ({"acts": {"pump": {"min": 0, "max": 2}}}, {}, "allowed: 0 to 1"),
        (
            {"observes": {"room": {"min": 10, "max": 30, "unit": "°C"}}},
            {},
            "room has two units: K on the server, °C in the experiment",
        ),
        ({"resets": ["start"]}, {}, "simulator.agent.resets"),
        ({}, {"testcase": "bestest"}, "simulator.args.testcase: the service refuses"),
        ({}, {"scenario": {"price": "dynamic"}}, "simulator.args.scenario: is not known"),
        ({}, {"scenario": {"time_period": "summer"}}, "Invalid value summer for parameter"),
        ({}, {"url": "ftp://x"}, "is not an address of the web"),
        ({}, {"url": "http://127.0.0.1:9"}, "simulator.args.url: cannot be reached"),
        ({}, {"command": "python x.py"}, "needs {port} if `command` starts the server"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(made, agent, args, expected):
    with pytest.raises(SimulatorError) as error:
        made(agent, **args).reset()
    assert expected in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("urll: x", "args.urll: no such argument"),
        ("testcase: x", "missing 1 required positional argument: 'url'"),
        ("url: 'http://127.0.0.1:9', testcase: x", "args.url: cannot be reached"),
    ],
)
def test_the_points_of_an_experiment_with_a_mistake_are_refused_by_name(
    tmp_path, capsys, args, words
):
    given = {"schema": 1, "name": "x", "simulator": {"id": "boptest", "agent": AGENT}}
    given |= {"learner": {"algorithm": "ppo"}, "train": {"steps": 100}}
    given["simulator"]["args"] = YAML(typ="safe").load(f"{{{args}}}")
    (tmp_path / "x.yaml").write_text(json.dumps(given))
    assert main(["list", "points", str(tmp_path / "x.yaml")]) == 2
    assert words in capsys.readouterr().err


def test_a_test_case_that_ends_costs_the_episode_and_another_is_selected(made):
    env = made()
    before = played(env)
    service.Service.tests.clear()
    *_, truncated, info = env.step(np.array([0.5], np.float32))
    assert truncated and info["kpi_restarts"] == 1
    assert played(env) == before


def test_a_queue_that_never_moves_and_a_step_that_never_returns_are_named(made, monkeypatch):
    monkeypatch.setattr(service.Test, "advance", lambda *_: __import__("time").sleep(0.6))
    env = made(step_timeout_s=0.2)
    env.reset(seed=1)
    *_, truncated, info = env.step(np.array([0.5], np.float32))
    assert truncated and info["kpi_restarts"] == 1
    monkeypatch.setattr(service.Test, "__init__", lambda self: setattr(self, "queued", 1_000_000))
    with pytest.raises(SimulatorError, match=r"did not run within .*: it is Queued"):
        made(start_timeout_s=0.1)


def test_nan_ends_the_run_by_name(made, monkeypatch):
    env = made()
    env.reset(seed=1)
    monkeypatch.setattr(service.Test, "measured", lambda self: {"reaTZon_y": float("nan")})
    with pytest.raises(RunFailed, match="the state 'room' is nan"):
        env.step(np.array([0.5], np.float32))
