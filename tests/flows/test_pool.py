"""A work pool that rents: foreign flows on machines of their own, with a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from uuid import uuid4

import psutil
import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard_flows.pool.flow_run_api import FlowRunApi
from drillyard_flows.pool.workload import PATH, FlowRunOrder, report_reaped
from tests.flows.conftest import Bench, lease_processes
from tests.helpers.patience import until
from tests.helpers.pools import FLOW, Pool
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy


@pytest.fixture
def pool(api, tmp_path):
    """A pool with the foreign flow; whatever was rented is given back."""
    pool = Pool(api, tmp_path, f"rented-{tmp_path.name}"[:60].replace("_", "-"))
    yield pool
    for folder in pool.store.glob("flow-*"):
        Bench(tmp_path).give_back(folder.name)


def test_a_foreign_flow_runs_on_a_lease_with_its_files_and_its_cost(api, pool):
    pool.make()
    pool.deploy()
    run = pool.start({"env": {"PUMP_PASSWORD": "Salt-dry-88"}}, number=21)
    with pool.worker():
        found = pool.ended(run)
        # Prefect's classes in ``execute.py`` are not public: the message names what changed.
        assert found["state"]["type"] == "COMPLETED", f"{found['state']}\n{pool.log()}"
        (settled,) = pool.settled()
    ((lease, gone),) = pool.leases().items()
    assert gone and lease_processes(lease) == []
    assert f"machine {lease} with Salt-dry-88" in api.logs(found)
    assert "1 on local for" in api.artifacts(found)["drillyard-cost"]["data"]
    assert settled["cost"] == 0.0
    # What the machine executed had the credentials of the API, and other secrets.
    assert not list(pool.store.glob("flow-*/control/flow-run.json"))
    kept = b"".join(path.read_bytes() for path in pool.store.glob("flow-*/**/*") if path.is_file())
    assert f"machine {lease} with ***".encode() in kept and b"Salt-dry-88" not in kept


@pytest.mark.slow
def test_a_cancelled_flow_is_ended_by_its_machine_and_a_second_worker_changes_nothing(api, pool):
    pool.make()
    pool.deploy()
    mark, gate = pool.folder / "mark", pool.folder / "gate"
    with pool.worker(), pool.worker("two"):
        run = pool.start(mark=str(mark), gate=str(gate))
        until(mark.exists, what="the flow at work")
        began = time.monotonic()
        api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        found = pool.ended(run)
        assert found["state"]["type"] == "CANCELLED", pool.log()
        assert time.monotonic() - began < 60
        assert len(pool.settled()) == 1
    assert list(pool.leases().values()) == [True]
    assert not psutil.pid_exists(int(mark.read_text().split()[0]))


@pytest.mark.slow
def test_a_flow_that_began_needs_no_worker_and_the_next_one_settles(api, pool):
    pool.make()
    pool.deploy()
    mark, gate = pool.folder / "mark", pool.folder / "gate"
    with pool.worker():
        run = pool.start(mark=str(mark), gate=str(gate))
        until(mark.exists, what="the flow at work")
    gate.touch()  # the worker was killed
    assert pool.ended(run)["state"]["type"] == "COMPLETED"
    with pool.worker("two"):
        (settled,) = pool.settled()
    assert settled["cost"] == 0.0 and list(pool.leases().values()) == [True]
    assert "drillyard-cost" in api.artifacts({"id": run})


@pytest.mark.slow
def test_a_lost_machine_is_crashed_and_no_other_one_is_rented(api, pool):
    pool.make()
    pool.deploy()
    mark = pool.folder / "mark"
    with pool.worker():
        run = pool.start(mark=str(mark), gate=str(pool.folder / "gate"))
        until(mark.exists, what="the flow at work")
        (lease,) = pool.leases()
        began = time.monotonic()
        for pid in lease_processes(lease):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found = pool.ended(run)
        assert found["state"]["type"] == "CRASHED", pool.log()
        assert time.monotonic() - began < 90
        assert len(pool.settled()) == 1
    assert list(pool.leases()) == [lease]


@pytest.mark.slow
def test_a_machine_that_is_lost_with_its_worker_is_not_replaced(api, pool):
    pool.make()
    pool.deploy()
    mark = pool.folder / "mark"
    with pool.worker():
        run = pool.start(mark=str(mark), gate=str(pool.folder / "gate"))
        until(mark.exists, what="the flow at work")
    began, (lease,) = mark.read_text(), pool.leases()
    for pid in lease_processes(lease):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with pool.worker("two"):
        assert pool.ended(run)["state"]["type"] == "CRASHED", pool.log("two")
        assert len(pool.settled()) == 1
    assert list(pool.leases()) == [lease] and mark.read_text() == began


@pytest.mark.slow
def test_a_flow_run_that_is_cancelled_before_it_began_does_not_begin(api, pool):
    pool.make()
    pool.deploy()
    mark = pool.folder / "mark"
    with pool.worker():
        run = pool.start(mark=str(mark))
        until(lambda: list(pool.store.glob(f"flow-*/{PATH}")), what="the order", every_s=0.02)
        api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        assert pool.ended(run)["state"]["type"] == "CANCELLED", pool.log()
        assert len(pool.settled()) == 1
    assert not mark.exists() and all(pool.leases().values())


@pytest.mark.slow
def test_a_killed_flow_is_crashed_and_a_missing_package_is_named(api, pool):
    pool.make()
    pool.deploy()
    mark = pool.folder / "mark"
    with pool.worker():
        lacks = pool.start(missing=True)  # inside of the flow, which Prefect calls a failure
        run = pool.start(mark=str(mark), gate=str(pool.folder / "gate"))
        until(mark.exists, what="the flow at work")
        os.kill(int(mark.read_text().split()[0]), signal.SIGKILL)
        assert pool.ended(run)["state"]["type"] == "CRASHED", pool.log()
        assert pool.ended(lacks)["state"]["type"] == "FAILED"
        assert len(pool.settled()) == 2


def test_a_flow_run_whose_machine_the_reaper_ended_is_crashed(api, pool):
    pool.make()
    pool.deploy()
    ours, other = pool.start(), pool.start()
    for run, kind in ((ours, "RUNNING"), (other, "PENDING")):
        body = {"state": {"type": kind}, "force": True}
        api.post(f"/flow_runs/{run}/set_state", body)
    mailbox = Mailbox(open_store(str(pool.store)), "flow-x")
    environment = {"PREFECT_API_URL": api.url}
    mailbox.write(PATH, FlowRunOrder(flow_run=ours, environment=environment))
    report_reaped(str(pool.store), "flow-x")
    report_reaped(str(pool.store), "another experiment")
    found = api.ended(ours)
    assert found["state"]["type"] == "CRASHED" and "reaper" in found["state"]["message"]
    # A worker looks for what another one took and never began.
    client = FlowRunApi.of(environment)
    assert client.waiting(pool.name, -1.0) == [other] and not client.waiting(pool.name, 60.0)
    client.set_state(other, "SCHEDULED", "taken and not begun")
    assert client.state(other) == "SCHEDULED"
    assert client.state(str(uuid4())) == "", "somebody deleted it"


@pytest.mark.slow
def test_a_block_of_another_backend_is_refused_before_anything_is_rented(api, pool):
    save = "from drillyard_flows.blocks import LocalBackend as B; B(stop_grace_s=3).save('mine')"
    run_process([sys.executable, "-c", save], more={"PREFECT_API_URL": api.url})
    pool.make(backend="ssh/mine")
    pool.deploy()
    run = pool.start()
    with pool.worker():
        state = pool.ended(run)["state"]
    assert state["type"] == "FAILED" and "mine" in state["message"] and "Fix:" in state["message"]
    assert not pool.leases()


@pytest.mark.slow
def test_a_package_that_the_machine_lacks_is_named_and_a_retry_runs(api, pool):
    pool.make()
    pool.deploy("import no_such_package\n" + FLOW)
    run = pool.start()
    with pool.worker():
        found = pool.ended(run)
        until(lambda: "no_such_package" in api.ended(run)["state"]["message"], what="the name")
        assert found["state"]["type"] == "CRASHED" and len(pool.settled()) == 1
        (pool.folder / "code" / "jobs.py").write_text(FLOW)
        api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED"}})
        until(lambda: len(list(pool.store.glob("flow-*"))) == 2, what="another experiment")
        assert pool.ended(run)["state"]["type"] == "COMPLETED", pool.log()
        assert len(pool.settled()) == 2
