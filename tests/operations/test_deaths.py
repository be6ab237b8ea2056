"""Whatever dies: the page says so, what was posted is finished or stopped, nothing is left."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from typing import Any

import pytest

from drillyard.system.processes import ProcessId
from tests.helpers.patience import until
from tests.helpers.yard import Yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SLOW = {"id": "world:Slow", "args": {"step_s": 0.01}}
STORED = "runs/t0001-s1/store.accepted.json"


def at_work(team: Yard, name: str, **more: object) -> str:
    """Id of a flow run whose training is past its second checkpoint."""
    run = team.start(team.bench.write(name, **{"simulator": SLOW, **more}))
    until(lambda: team.bench.board_step(name) >= 130, what="steps")
    return run


def kill(pid: int) -> None:
    found = ProcessId.of(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: found is None or not found.alive(), what="its end")


def crashed(team: Yard, run: str, killed_at: float) -> dict[str, Any]:
    """Its state, once it is marked as crashed; how long that took is printed."""
    state = team.ended(run)["state"]
    assert state["type"] == "CRASHED", state
    took = datetime.fromisoformat(state["timestamp"]).timestamp() - killed_at
    print(f"from kill -9 to Crashed: {took:.0f} s ({state['message']})")
    return dict(state)


def member(team: Yard, name: str) -> int:
    """Process of a server or a worker."""
    return int(team.stack.read()["processes"][name]["pid"])


def finished(team: Yard, name: str) -> bool:
    return (team.bench.store / name / STORED).is_file()


def test_kill_9_of_a_flow_run(team):
    run = at_work(team, "killed")
    process = team.process(run)
    killed_at = time.time()
    kill(process.pid)
    crashed(team, run, killed_at)
    team.delay_s(team.alert("killed Crashed"), "prefect.flow-run.Crashed")
    team.drained("killed")
    assert finished(team, "killed")
    again = team.start(team.bench.folder / "killed.json")
    assert team.ended(again)["state"]["type"] == "COMPLETED"
    assert len(team.bench.leases("killed")) == 1


def test_on_driver_loss_stop_takes_the_lease_at_once(team):
    more = {"steps": 100_000_000, "checkpoint_every": 64}  # it would not drain in this life
    run = at_work(team, "guarded", train=more, on_driver_loss="stop")
    kill(team.process(run).pid)
    assert team.ended(run)["state"]["type"] == "CRASHED"
    team.drained("guarded")
    assert list((team.bench.store / "guarded/runs/t0001-s1/attempts/train-1").rglob("manifest*"))


def test_kill_9_of_a_flow_run_and_its_worker(team):
    run = at_work(team, "orphaned")
    process = team.process(run)
    try:
        kill(member(team, "worker"))
        killed_at = time.time()
        kill(process.pid)
        assert "no heartbeat" in crashed(team, run, killed_at)["message"]
        team.alert("orphaned Crashed")
        team.drained("orphaned")
        assert finished(team, "orphaned")
    finally:
        team.up()


def test_a_worker_that_is_stopped(team):
    run = at_work(team, "dropped")
    process = team.process(run)
    try:
        os.kill(member(team, "worker"), signal.SIGTERM)  # as systemd does
        until(lambda: not process.is_running(), what="the worker ends its flow runs")
        assert team.flow_run(run)["state"]["type"] == "RUNNING"  # without a last word
        assert team.ended(run)["state"]["type"] == "CRASHED"
        team.drained("dropped")
        assert finished(team, "dropped")
    finally:
        team.up()


def test_a_server_that_dies_and_comes_back(team):
    run = at_work(team, "served")
    kill(member(team, "prefect"))
    team.up()
    ended = team.ended(run)
    team.nothing_left("served")
    assert finished(team, "served")
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
