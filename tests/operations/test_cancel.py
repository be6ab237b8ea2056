"""Cancel, whoever says it: training stops with a checkpoint, machines go, it is Cancelled."""

from __future__ import annotations

import fcntl
import json
import signal
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from drillyard.system.scratch import RUNTIME
from tests.flows.conftest import lease_processes
from tests.helpers.pages import browser, cancel, log_in
from tests.helpers.patience import until
from tests.helpers.yard import Yard
from tests.operations.test_deaths import SLOW, at_work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def stopped(team: Yard, name: str, run: str) -> None:
    """It is cancelled, nothing is left, and the same form again goes on."""
    assert team.ended(run)["state"]["type"] == "CANCELLED"
    team.nothing_left(name)
    assert not (team.bench.store / name / "runs/t0001-s1/train.accepted.json").exists()


def goes_on(team: Yard, name: str) -> None:
    again = team.start(team.bench.folder / f"{name}.json")
    ended = team.ended(again)
    assert ended["state"]["type"] == "COMPLETED", (ended["state"], team.api.logs(ended))
    attempt = team.bench.store / name / "runs/t0001-s1/attempts/train-2/start.json"
    assert json.loads(attempt.read_text())["resumed_step"] >= 128
    team.nothing_left(name)


@pytest.mark.browser
def test_in_the_ui(team, chromium):
    with browser(chromium, team.environ) as page:
        log_in(page, team.ui, team.environ["PREFECT_API_AUTH_STRING"])
        # Long enough for somebody to find the button.
        run = at_work(team, "clicked", train={"steps": 4096, "checkpoint_every": 64})
        cancel(page, team.ui, run)
        stopped(team, "clicked", run)
        page.reload()
        expect(page.get_by_text("Cancelled").first).to_be_visible()
    goes_on(team, "clicked")


def test_cancel_stops_a_flow_run_and_the_same_command_continues(team):
    run = at_work(team, "by-name")
    said = team.drillyard("cancel", "by-name", "--store", team.bench.store)
    assert "stopped" in said
    stopped(team, "by-name", run)
    goes_on(team, "by-name")


def test_by_ctrl_c(team):
    file = team.bench.write("by-ctrl-c", simulator=SLOW)
    child = team.bench.start("run", file, **team.environ)
    until(lambda: team.bench.board_step("by-ctrl-c") >= 130, what="steps")
    child.send_signal(signal.SIGINT)
    assert team.bench.ended(child) == 130
    stopped(team, "by-ctrl-c", team.api.flow_run("by-ctrl-c")["id"])
    goes_on(team, "by-ctrl-c")


def test_by_prefects_command(team):
    run = at_work(team, "by-id")
    team.prefect("flow-run", "cancel", run)
    stopped(team, "by-id", run)
    goes_on(team, "by-id")


def test_a_run_that_has_not_begun(team):
    pool = "/work_pools/drillyard-local"
    team.api.patch(pool, {"is_paused": True})
    try:
        run = team.start(team.bench.write("never"))
        team.prefect("flow-run", "cancel", run)
        assert team.ended(run)["state"]["type"] == "CANCELLED"
    finally:
        team.api.patch(pool, {"is_paused": False})
    assert not (team.bench.store / "never").exists()


def test_a_teardown_that_takes_longer_than_prefect_waits(team):
    run = at_work(team, "stubborn")
    (lease,) = team.bench.leases("stubborn")
    agent = psutil.Process(lease_processes(lease)[0])
    runtime = Path(agent.environ()[RUNTIME])
    process = team.process(run)
    with open(runtime / f"{lease}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever is to end the lease waits for its turn
        team.prefect("flow-run", "cancel", run)
        until(lambda: not process.is_running(), what="Prefect has ended the flow run")
        assert (runtime / lease).exists()  # in the middle of the teardown
    stopped(team, "stubborn", run)
    until(lambda: not (runtime / lease).exists(), what="the rest of the teardown")
    goes_on(team, "stubborn")


def test_down_gives_machines_back_before_the_worker_ends(team, tmp_path):
    run = at_work(team, "by-down")
    said = team.drillyard("down", "--folder", team.stack.folder)
    try:
        assert "stopping 1 flow runs" in said
        assert all(team.bench.leases("by-down").values())  # given back before the worker ended
    finally:
        team.up()
    assert team.flow_run(run)["state"]["type"] in ("CRASHED", "CANCELLED")
    team.nothing_left("by-down")
    goes_on(team, "by-down")
