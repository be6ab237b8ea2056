"""The flow runs of a pool from order to settlement, without a server and without a machine."""

from __future__ import annotations

import urllib.error
from dataclasses import dataclass, field, replace
from email.message import Message

import pytest

from drillyard.backend import Cost, Order
from drillyard.errors import ControlPlaneError
from drillyard.leases.ledger import Ledger
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.records import Cancel
from drillyard.system.clock import SYSTEM
from drillyard_flows.pool import flow_run_api
from drillyard_flows.pool import session as pool_session
from drillyard_flows.pool.account import Account
from drillyard_flows.pool.flow_run_api import FlowRunApi
from drillyard_flows.pool.session import Session, adopted, begin
from drillyard_flows.pool.workload import PATH
from tests.unit.flows.test_pool_request import REQUEST

NAME = REQUEST.name


@dataclass
class Server:
    """What Prefect's server knows of one flow run."""

    now: str = "PENDING"
    shown: list[str] = field(default_factory=list)

    def state(self, flow_run: str, experiment: str = "") -> str:
        return self.now

    def set_state(self, flow_run: str, kind: str, message: str) -> None:
        self.now = kind

    def show(self, flow_run: str, key: str, markdown: str) -> None:
        self.shown.append(markdown)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def account(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRILLYARD_STORE", str(tmp_path / "runs"))
    return Account(str(tmp_path / "runs"), "pool")


@pytest.fixture
def start(account, server, tmp_path):
    """Takes the flow run as a worker does."""

    def begin_one(request=REQUEST) -> Session:
        return begin(request, account, server, print, tmp_path / "empty")

    (tmp_path / "empty").mkdir()
    return begin_one


def test_a_retry_gets_another_experiment_also_if_the_flow_had_not_begun(start, account):
    first = start()
    assert start().mailbox.experiment == NAME, "another worker that takes it at once"
    assert len(account.open()) == 1
    first.settle("its machine lacks a package")
    first.mailbox.store.put(first.mailbox.key("experiment.json"), b"{}")
    assert start().mailbox.experiment == f"{NAME}-1"
    assert start(replace(REQUEST, attempt=1)).mailbox.experiment == f"{NAME}-1"


def test_a_cancelled_flow_run_rents_nothing_also_for_the_next_worker(start, account, server):
    session = start()
    order = Cancel(reason="cancelled in Prefect", by="x", written_at=0.0)
    session.mailbox.create("control/cancel.json", order)
    server.now = "CANCELLING"
    session.drive()
    assert server.now == "CANCELLED" and "nothing was rented" in server.shown[0]
    assert not account.open() and session.mailbox.drivers() == []
    assert session.mailbox.store.stat(session.mailbox.key(PATH)) is None
    assert start().mailbox.experiment == f"{NAME}-1", "the order is not one for the retry"


def test_what_may_be_alive_is_not_settled(start, account, server, monkeypatch):
    session = start()
    ledger = Ledger(session.mailbox)
    url = session.mailbox.store.url
    order = Order(lease_id="dy-0000000001", experiment=NAME, store_url=url, workers=1)
    ledger.intend(order, "gcp", 1, Cost(per_hour=1.0))
    server.now = "RUNNING"

    def away(*_: object, **__: object) -> None:
        raise ControlPlaneError("the provider does not answer")

    monkeypatch.setattr(pool_session, "driver_of", away)
    session.drive()
    assert server.now == "RUNNING" and len(account.open()) == 1
    assert session.mailbox.store.stat(session.mailbox.key(PATH)) is not None
    ledger.gone(order.lease_id, "torn down")
    session.drive()
    assert server.now == "CRASHED" and not account.open()


def test_a_worker_that_packs_for_long_is_not_taken_for_dead(start, account, server, tmp_path):
    box = start().mailbox
    ((_, entry),) = account.open()
    old = entry.model_copy(update={"written_at": 0.0})
    lock = DriverLock(box, SYSTEM, say=print)
    lock.take([])
    assert adopted(account, old, server, print, tmp_path) is None
    assert len(account.open()) == 1
    lock.release("killed")
    assert adopted(account, old, server, print, tmp_path) is None
    assert not account.open()
    assert box.store.stat(box.key(PATH)) is None, "it has the credentials"


def test_a_flow_run_that_was_retried_or_deleted_is_left_alone(monkeypatch):
    api = FlowRunApi("http://127.0.0.1:9/api")
    run = {"state_type": "RUNNING", "infrastructure_pid": "/runs/flow-7b1c-1"}
    monkeypatch.setattr(FlowRunApi, "_ask", lambda *_: run)
    assert api.state("7b1c") == api.state("7b1c", "flow-7b1c-1") == "RUNNING"
    assert api.state("7b1c", "flow-7b1c") == ""
    run["infrastructure_pid"] = None  # its worker has not told it yet
    assert api.state("7b1c", "flow-7b1c") == "RUNNING"
    monkeypatch.undo()

    def refused(url: str, *_: object, **__: object) -> None:
        raise urllib.error.HTTPError(url, code, "no", Message(), None)

    monkeypatch.setattr(flow_run_api, "ask", refused)
    code = 404
    assert api.state("7b1c") == ""
    code = 401
    with pytest.raises(ControlPlaneError, match="401"):
        api.state("7b1c")
