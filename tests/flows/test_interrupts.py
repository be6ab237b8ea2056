"""Ctrl-C, kill -9 and cancel at the real command: nothing is lost, nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.system.processes import ProcessId
from drillyard_flows import hooks
from tests.flows.conftest import Api, Bench, lease_processes
from tests.helpers import rules
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.prefect_homes import copied

ROOT = Path(__file__).parents[2]
SLOW = {"id": "world:Slow", "args": {"step_s": 0.01}}


KEPT = {
    "simulator": {"id": "world:Kept", "args": {"step_s": 0.01}},
    "train": {"steps": 512, "checkpoint_every": 256},
}


def started(bench: Bench, name: str, step: int = 130, **more: Any) -> tuple[Path, Any]:
    """A command whose run is past its second checkpoint, at 128."""
    file = bench.write(name, **{"simulator": SLOW, **more})
    child = bench.start("run", file)
    until(lambda: bench.board_step(name) >= step or child.poll() is not None, what="steps")
    assert child.poll() is None, bench.said()
    return file, child


def only_lease(bench: Bench, name: str) -> tuple[str, bool]:
    ((lease, gone),) = bench.leases(name).items()
    return lease, gone


def test_ctrl_c_stops_resumably_and_the_end_is_the_same(api: Api, bench: Bench) -> None:
    _, child = started(bench, "stopped", **KEPT)
    whole = bench.start("run", bench.write("whole", **KEPT))
    child.send_signal(signal.SIGINT)

    assert bench.ended(child) == 130
    said = bench.said()
    assert "drillyard resume stopped" in said and "Traceback" not in said
    stop_step = re.search(r"t0001-s1 continues at step ([\d,]+), where it stopped", said)
    assert stop_step, said
    lease, gone = only_lease(bench, "stopped")
    assert gone and lease_processes(lease) == []
    assert not (bench.store / "stopped/runs/t0001-s1/train.accepted.json").exists()
    flow = api.flow_run("stopped")
    assert flow["state"]["type"] == "CANCELLED"
    train = "train t0001-s1"
    assert api.tasks(flow, train)[train]["state"]["type"] == "CANCELLED"
    assert api.errors(flow) == []  # a stop that was asked for is not an error

    # The file is not needed to go on: the store has the experiment and the user's code.
    until(lambda: bench.board_step("whole") > 0, what="the other one has its code")
    (bench.folder / "world.py").unlink()
    done = bench.run("resume", "stopped")
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr  # of the model that the check of a resume builds
    second = json.loads(
        (bench.store / "stopped/runs/t0001-s1/attempts/train-2/start.json").read_text()
    )
    assert second["resumed_step"] == int(stop_step[1].replace(",", "")) > 0
    assert stop_step[0] in done.stderr + done.stdout  # said again when it went on

    assert bench.ended(whole) == 0, bench.said(1)
    assert bench.weights("stopped") == bench.weights("whole")


def test_ctrl_c_twice_leaves_at_once_and_says_what_is_left(api: Api, bench: Bench) -> None:
    _, child = started(bench, "twice")
    child.send_signal(signal.SIGINT)
    until(lambda: "Press Ctrl-C again" in bench.said(), what="the first is heard")
    child.send_signal(signal.SIGINT)

    assert bench.ended(child) == 130
    assert "drillyard cancel twice" in bench.said()
    assert bench.run("cancel", "twice").returncode == 0
    lease, gone = only_lease(bench, "twice")
    assert gone and lease_processes(lease) == []


FLOW = """
import signal, sys
from drillyard_backends.local import LocalBackend
from drillyard_flows.experiment import experiment
from tests.helpers.interrupted import held
signal.signal(signal.SIGINT, signal.default_int_handler)
for verb in ("provision", "teardown"):
    setattr(LocalBackend, verb, held(verb, getattr(LocalBackend, verb)))
experiment(file=sys.argv[1], store=sys.argv[2])
"""
STAGED = """
name: whole
workload: composite
tracking: {{mlflow: null}}
children:
  - name: first
    workload: script
    resources: {{workers: 1}}
    script: {{run: [[sh, -c, 'touch {flag}; while [ ! -e {gate} ]; do sleep 0.1; done']]}}
"""


@pytest.mark.extended
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("what", "phase"),
    [("plain", "training"), ("stages", "training"), ("plain", "provision"), ("plain", "teardown")],
)
def test_a_flow_run_that_drives_ends_what_it_rented(
    api: Api, bench: Bench, tmp_path: Path, what: str, phase: str, number: signal.Signals
) -> None:
    # Beside the folder of the experiment, whose files are its code.
    flags = tmp_path.with_name(f"{tmp_path.name}-flags")
    flags.mkdir()
    flag, gate, hold = flags / "in-training", flags / "gate", flags / f"hold-{phase}"
    hold.touch()
    if what == "stages":
        file = tmp_path / "whole.yaml"
        file.write_text(STAGED.format(flag=flag, gate=gate))
    else:
        simulator = SLOW if phase == "training" else {"id": "world:Slow"}
        file = bench.write("whole", simulator=simulator)
    child = subprocess.Popen(
        [sys.executable, "-c", FLOW, str(file), str(bench.store), "flow", str(flags)],
        cwd=tmp_path,
        env={**os.environ, "PREFECT_API_URL": api.url, "PYTHONPATH": rules.path(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def reached() -> bool:
        if phase == "training" and what == "plain":
            return bench.board_step("whole") >= 65
        return (flags / f"in-{phase}").exists()

    until(lambda: reached() or child.poll() is not None, what=phase)
    assert child.poll() is None, child.communicate()
    child.send_signal(number)
    signalled = time.time()
    until(
        lambda: [*bench.store.glob("*/control/cancel.json")] or child.poll() is not None,
        what="the order to stop",
    )
    hold.unlink()
    _, said = child.communicate(timeout=PATIENCE_S)
    leases = [path for path in bench.store.glob("*/leases/*") if path.is_dir()]
    assert leases and all((path / "gone.json").exists() for path in leases), said
    gone_at = max((path / "gone.json").stat().st_mtime for path in leases)
    print(f"{what} {phase}: gone {gone_at - signalled:.1f} s after the signal")
    assert gone_at - signalled < 60
    assert not any(lease_processes(path.name) for path in leases)
    assert [*bench.store.glob("*/control/cancel.json")], said
    for path in bench.store.glob("*/driver/1.json"):
        assert json.loads(path.read_text())["ended_at"] is not None
    gate.touch()
    done = bench.run("run", file)
    assert done.returncode == 0, done.stderr


def test_kill_9_of_the_driver_and_the_same_command_adopts(api: Api, bench: Bench) -> None:
    file, child = started(bench, "adopted")
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = bench.run("run", file)

    assert done.returncode == 0, done.stderr
    lease, gone = only_lease(bench, "adopted")  # one lease, not a second
    assert gone and lease_processes(lease) == []
    claims = [p.name for p in (bench.store / "adopted/claims").glob("*.train.*")]
    assert sorted(claims) == ["t0001-s1.train.1.ended.json", "t0001-s1.train.1.json"]


def test_kill_9_of_the_prefect_server_costs_no_result(prefect_home: Path, bench: Bench) -> None:
    home = copied(prefect_home, bench.folder / "prefect")
    child = bench.start("run", bench.write("headless", simulator=SLOW), PREFECT_HOME=str(home))
    until(lambda: bench.board_step("headless") >= 64 or child.poll() is not None)
    assert child.poll() is None, bench.said()
    until(lambda: (home / "storage").exists() or bench.board_step("headless") > 200)
    server = json.loads((home / "server.json").read_text())
    assert ProcessId(server["pid"], server["started"]).alive()
    os.kill(server["pid"], signal.SIGKILL)

    assert bench.ended(child) == 0, bench.said()
    assert "without Prefect" in bench.said() and "Traceback" not in bench.said()
    lease, gone = only_lease(bench, "headless")
    assert gone and lease_processes(lease) == []


def test_hooks_tear_down_from_another_process_by_keyword(api: Api, bench: Bench) -> None:
    file, child = started(bench, "hooked")
    child.send_signal(signal.SIGKILL)  # as a worker's flow process that dies
    child.wait()
    flow_run = SimpleNamespace(
        parameters={"file": str(file), "store": str(bench.store), "name": "hooked"},
        expected_start_time=None,
        tags=[],
    )

    hooks.tear_down(flow=None, flow_run=flow_run, state=None)
    lease, gone = only_lease(bench, "hooked")
    assert not gone and lease_processes(lease)  # undecided: a lost driver costs no work

    hooks.stop_and_tear_down(flow=None, flow_run=flow_run, state=None)
    lease, gone = only_lease(bench, "hooked")
    assert gone and lease_processes(lease) == []
