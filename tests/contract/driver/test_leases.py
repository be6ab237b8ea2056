"""Leases: intent, setup, loss, replacement, limits, teardown."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from drillyard.backend import Lease, Liveness, Order
from drillyard.driver.driver import Driver
from drillyard.driver.setup import SETUP_REPLACEMENTS
from drillyard.errors import (
    InfrastructureError,
    RunFailed,
    TeardownUnconfirmed,
    TimedOut,
    WorkerLost,
)
from drillyard.leases.ledger import local_intents
from drillyard.leases.setup_wait import SetupWait
from drillyard.mailbox.records import TicketRecord, WorkerRecord
from drillyard.mailbox.status import Cause, Status
from tests.helpers.lives import TICKETS
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Worker, good_work, tiny

pytestmark = pytest.mark.heavy


def test_a_lost_machine_is_replaced_and_its_attempt_counted(folder, mailbox, monkeypatch):
    monkeypatch.setattr("drillyard.driver.watcher.TEND_S", 0.1)

    def dies_once(worker: Worker, ticket: Any, attempt: int) -> str:
        if attempt == 1 and ticket.ticket == "t0001-s1.train":
            worker.die()
        return good_work(worker, ticket, attempt)

    backend = ThreadBackend(dies_once)
    driver = Driver(tiny(folder), mailbox, backend)
    driver._closer._silent_s = 0.3
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    accepted = driver.wait("t0001-s1.train", PATIENCE_S)
    assert accepted.attempt == 2
    ending = mailbox.ending("t0001-s1.train", 1)
    assert ending is not None and ending.cause is Cause.INFRASTRUCTURE
    assert len(set(backend.provisions)) == 2
    for ticket in TICKETS:
        driver.wait(ticket, PATIENCE_S)
    driver.teardown()
    gone = [e.gone for e in driver.ledger.entries()]
    assert [g.reason for g in gone if g] == ["lost", "torn down"]


def test_setup_says_what_the_worker_said(folder, mailbox):
    backend = ThreadBackend()
    backend.setup_error = "requirement foo==1 cannot be found"
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    driver.provision()
    with pytest.raises(RunFailed, match="requirement foo==1 cannot be found"):
        driver.setup(PATIENCE_S)


def test_a_worker_that_leaves_in_its_setup_is_replaced(folder, mailbox):
    """Only a user's error ends the experiment."""
    backend = ThreadBackend()
    backend.left_in_setup = ["503 Service Unavailable"] * SETUP_REPLACEMENTS
    driver = Driver(tiny(folder), mailbox, backend)
    todo = driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    for ticket in todo:
        driver.wait(ticket.ticket, PATIENCE_S)
    driver.teardown()
    assert len(backend.provisions) == SETUP_REPLACEMENTS + 1


class Mute(ThreadBackend):
    """The first machines run, and their workers never start."""

    mute = 1

    def provision(self, order: Order) -> Lease:
        if order.lease_id in self.alive or len(self.provisions) >= self.mute:
            return super().provision(order)
        self.provisions.append(order.lease_id)
        lease = Lease(lease_id=order.lease_id, backend=self.kind, order=order, created_at=0.0)
        machine = Machine()
        machine.start()
        self.alive[order.lease_id] = (lease, machine)  # type: ignore[assignment]
        return lease


class Machine(threading.Thread):
    """As much of a worker as ``ThreadBackend`` needs."""

    dead = False

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.end = threading.Event()

    def run(self) -> None:
        self.end.wait(PATIENCE_S)

    def die(self) -> None:
        self.dead = True
        self.end.set()


def test_a_machine_whose_worker_never_starts_is_replaced_once(folder, mailbox):
    backend = Mute()
    driver = Driver(tiny(folder), mailbox, backend)
    todo = driver.open()
    driver.provision()
    driver.setup(2.0)
    for ticket in todo:
        driver.wait(ticket.ticket, PATIENCE_S)
    driver.teardown()
    assert len(backend.provisions) == 2 and ThreadBackend.alive == {}


class Unsure(Mute):
    """Its provider cannot be asked, which proves nothing."""

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        return Liveness.UNKNOWN


@pytest.mark.parametrize(("kind", "rented"), [(Mute, 2), (Unsure, 1)])
def test_machines_whose_workers_never_start_are_an_error_in_the_end(kind, rented, folder, mailbox):
    """After the second machine that runs; at once where it may not be there."""
    backend = kind()
    backend.mute = 9
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    driver.provision()
    with pytest.raises(WorkerLost, match="had no ready worker"):
        driver.setup(0.5)
    driver.teardown()
    assert len(backend.provisions) == rented and ThreadBackend.alive == {}


def test_setups_that_all_fail_say_why(folder, mailbox):
    backend = ThreadBackend()
    backend.left_in_setup = ["503 Service Unavailable"] * 10
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    driver.provision()
    with pytest.raises(WorkerLost, match="503 Service Unavailable"):
        driver.setup(PATIENCE_S)


def test_one_of_many_that_leaves_in_its_setup_is_not_waited_for(mailbox, folder):
    backend = ThreadBackend()
    order = Order(
        lease_id="dy-0123456789", experiment="tiny", workers=3, store_url=mailbox.store.url
    )
    lease = backend.provision(order.model_copy(update={"workers": 2}))
    lease = lease.model_copy(update={"order": order})
    until(lambda: any(worker.state == "ready" for worker in mailbox.workers()))
    left = WorkerRecord(
        worker="third", lease=order.lease_id, state="leaving", message="503", written_at=0.0
    )
    mailbox.write("workers/third.json", left)
    waiting = SetupWait(mailbox, backend, lease, PATIENCE_S)
    assert waiting.step(0.0) is None
    assert [worker.slots for worker in waiting.ready] == [2]


class HalfReady(ThreadBackend):
    """Of two workers one never comes."""

    def provision(self, order: Order) -> Lease:
        lease = super().provision(order.model_copy(update={"workers": 1}))
        return lease.model_copy(update={"order": order})


def test_setup_ends_with_the_work(folder, mailbox):
    """Who was ready early has done everything: nobody waits for the other one."""
    backend = HalfReady()
    driver = Driver(tiny(folder, resources={"workers": 2}), mailbox, backend)
    driver.open()
    driver.provision()
    assert len(driver.setup(PATIENCE_S)) == 1
    assert all(state.status is Status.SUCCEEDED for state in driver.states().values())
    driver.teardown()
    assert len(backend.provisions) == 1 and ThreadBackend.alive == {}


def test_what_was_torn_down_during_setup_is_not_rented_again(folder, mailbox):
    backend = HalfReady(lambda worker, ticket, attempt: str(worker.end.wait(PATIENCE_S)))
    driver = Driver(tiny(folder, resources={"workers": 2}), mailbox, backend)
    driver.open()
    driver.provision()
    raised: list[BaseException] = []

    def setup() -> None:
        try:
            driver.setup(PATIENCE_S)
        except WorkerLost as error:
            raised.append(error)

    thread = threading.Thread(target=setup)
    thread.start()
    until(lambda: any(worker.state == "ready" for worker in mailbox.workers()))
    driver.teardown()
    thread.join(PATIENCE_S)
    assert len(raised) == 1
    assert len(backend.provisions) == 1 and ThreadBackend.alive == {}


def test_a_lease_that_dies_in_setup_shows_its_last_lines(folder, mailbox, monkeypatch):
    monkeypatch.setattr("drillyard.driver.setup.SETUP_REPLACEMENTS", 0)
    backend = ThreadBackend()
    driver = Driver(tiny(folder, resources={"workers": 2}), mailbox, backend)
    driver.open()
    lease = driver.provision()
    backend.worker(lease).die()
    backend.worker(lease).join()
    mailbox.store.delete(mailbox.key(f"workers/{backend.worker(lease).worker}.json"))
    with pytest.raises(WorkerLost, match="out of disc"):
        driver.setup(PATIENCE_S)


def test_the_intent_is_on_disk_before_anything_is_asked_for(folder, mailbox, tmp_path):
    backend = ThreadBackend()
    backend.unreachable = 1
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    with pytest.raises(InfrastructureError):
        driver.provision()
    (intent,) = local_intents()
    assert list((tmp_path / "home" / "intents").iterdir())
    # The same id is asked for again: what the lost answer may have made is found, not doubled.
    assert driver.provision().lease_id == intent.order.lease_id
    assert driver.ledger.next_lease()[0] == 2
    driver.teardown()
    assert list(local_intents()) == []


def test_an_unconfirmed_teardown_is_said_and_mended_later(folder, mailbox):
    backend = ThreadBackend()
    driver = Driver(tiny(folder), mailbox, backend)
    todo = driver.open()
    lease = driver.provision()
    driver.setup(PATIENCE_S)
    for ticket in todo:
        driver.wait(ticket.ticket, PATIENCE_S)
    backend.undeletable = True
    with pytest.raises(TeardownUnconfirmed, match=lease.lease_id):
        driver.teardown(timeout_s=0.5)
    assert [i.order.lease_id for i in local_intents()] == [lease.lease_id]
    driver.close("teardown unconfirmed")
    backend.undeletable = False
    assert Driver(tiny(folder), mailbox, backend).open() == []
    assert ThreadBackend.alive == {}
    assert list(local_intents()) == []


def test_a_used_up_budget_rents_nothing(folder, mailbox):
    backend = ThreadBackend()
    backend.price = 3600.0
    loaded = tiny(folder, budget={"max_cost": 100.0})
    driver = Driver(loaded, mailbox, backend)
    driver.open()
    order = driver.provision().order
    assert order.deadline is not None
    assert order.workers == 2
    assert order.deadline - time.time() == pytest.approx(50.0, abs=2.0)
    assert order.deadline_of == "budget.max_cost = 100"
    driver.teardown()
    intent = driver.ledger.entries()[0].intent
    mailbox.write(
        f"leases/{order.lease_id}/intent.json",
        intent.model_copy(update={"written_at": time.time() - 60}),
    )
    gone = driver.ledger.entries()[0].gone
    mailbox.write(f"leases/{order.lease_id}/gone.json", gone.model_copy(update={"lived_s": 60.0}))
    with pytest.raises(TimedOut, match=r"budget\.max_cost = 100 is used up"):
        driver.provision()
    assert backend.provisions == [order.lease_id]


def test_a_lease_that_nothing_ends_at_its_limit_is_ended_by_the_driver(
    folder, mailbox, monkeypatch
):
    monkeypatch.setattr("drillyard.leases.manager.MIN_LIFE_S", 0.1)
    monkeypatch.setattr("drillyard.driver.lease_supervisor.OVERDUE_S", 0.2)

    def never(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        worker.end.wait(PATIENCE_S)
        raise ValueError("ended")

    backend = ThreadBackend(never)
    driver = Driver(tiny(folder, budget={"max_hours": 1.0 / 3600.0}), mailbox, backend)
    todo = driver.open()
    driver.provision()
    driver.setup(timeout_s=PATIENCE_S)
    with pytest.raises(TimedOut, match="max_hours"):
        driver.wait(todo[0].ticket, timeout_s=PATIENCE_S)
    driver.teardown()
    driver.close("timed out")
    assert ThreadBackend.alive == {}
    assert all(not entry.open for entry in driver.ledger.entries())
