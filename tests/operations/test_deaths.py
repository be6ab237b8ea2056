"""A flow run is killed: the page says so, what was posted is finished or stopped, nothing left."""

from __future__ import annotations

import os
import signal

import pytest

from drillyard.processes import ProcessId
from tests.patience import until

from .yard import Yard

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


def finished(team: Yard, name: str) -> bool:
    return (team.bench.store / name / STORED).is_file()


def test_kill_9_of_a_flow_run(team: Yard) -> None:
    run = at_work(team, "killed")
    kill(team.process(run).pid)
    assert team.ended(run)["state"]["type"] == "CRASHED"
    team.alert("killed Crashed")
    team.nothing_left("killed")  # its lease has drained its tickets
    assert finished(team, "killed")
    again = team.start(team.bench.folder / "killed.json")
    assert team.ended(again)["state"]["type"] == "COMPLETED"
    assert len(team.bench.leases("killed")) == 1


def test_on_driver_loss_stop_takes_the_lease_at_once(team: Yard) -> None:
    more = {"steps": 100_000_000, "checkpoint_every": 64}  # it would not drain in this life
    run = at_work(team, "guarded", train=more, on_driver_loss="stop")
    kill(team.process(run).pid)
    assert team.ended(run)["state"]["type"] == "CRASHED"
    team.nothing_left("guarded")
    assert list((team.bench.store / "guarded/runs/t0001-s1/attempts/train-1").rglob("manifest*"))
