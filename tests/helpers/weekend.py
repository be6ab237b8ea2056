"""Rented machines of a weekend: what ends, sleeps or is lost while no command runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.backend import Lease
from drillyard.driver.driver import Driver
from drillyard.leases.ledger import Entry, Ledger
from drillyard.leases.places import Places
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Claim, Ending
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs import submit
from drillyard.spec.load import load
from drillyard.testing.clock import FakeClock
from tests.helpers.paid_backend import PaidBackend
from tests.helpers.records import tell_worker

HOUR_S = 3600.0
FILE = """schema: 1
name: m
workload: mock
backend: paid
seeds: [1, 2, 3]
resources: {workers: 3}
budget: {max_hours: 2, max_cost: 100}
"""
PER_HOUR = 6.0
"""Price of its three machines."""


class Cluster(PaidBackend):
    """Its machines start with jobs and end after them."""

    nodes = 0

    def idle(self, lease: Lease) -> bool:
        return self.nodes == 0


def no_driver(mailbox: Mailbox) -> None:
    """The driver's machine is lost, and its record is old."""
    for number in mailbox.driver_numbers():
        mailbox.store.delete(f"m/driver/{number}.json")


def command(
    mailbox: Mailbox,
    clock: FakeClock,
    backend: type[PaidBackend] | None = PaidBackend,
) -> Driver:
    """The command; its driver is the newest.

    Args:
        mailbox: The experiment ``m``, whose file is ``m.yaml``.
        clock: For everything.
        backend: None: as the file says.
    """
    no_driver(mailbox)
    loaded = load(Path("m.yaml"))
    where = Places.of_spec(loaded.spec) if backend is None else backend()
    driver = Driver(loaded, mailbox, where, clock=clock)
    driver._lock.take(["drillyard", "run", "m.yaml"])
    submit.post(driver.spec, mailbox, driver._wanted.trials(), driver._lock.must_drive, clock)
    return driver


def died(lease: Lease) -> None:
    """Its machines go without a word."""
    PaidBackend.machines[lease.lease_id].gone_at = PaidBackend.clock.now()


def at_their_limit() -> None:
    """The provider ends the machines whose time is over."""
    now = PaidBackend.clock.now()
    for machine in PaidBackend.machines.values():
        deadline = machine.lease.order.deadline
        if machine.gone_at is None and deadline is not None and now >= deadline:
            machine.gone_at = deadline


def billed() -> float:
    """What the provider bills so far."""
    now = PaidBackend.clock.now()
    lives = [(m.gone_at or now) - m.made_at for m in PaidBackend.machines.values()]
    return PER_HOUR * sum(lives) / HOUR_S


def told(mailbox: Mailbox, lease: Lease, state: str, workers: int) -> None:
    """So many workers of a lease write their record now."""
    for number in range(workers):
        now = mailbox.store.now()
        tell_worker(mailbox, f"w{number}", lease.lease_id, state=state, written_at=now)


def finished(mailbox: Mailbox) -> None:
    """Every ticket is done."""
    for ticket in ticket_states(mailbox):
        mailbox.claim(Claim(ticket=ticket, attempt=1, worker="w0", token="x", claimed_at=0.0))
        done = Ending(ticket=ticket, attempt=1, status=Status.SUCCEEDED, by="w0", ended_at=0.0)
        mailbox.end(done)


def nothing_to_do(mailbox: Mailbox) -> None:
    """Its tickets are deleted, so that a reaper may end what it rented."""
    for info in list(mailbox.store.list("m/queue/")):
        mailbox.store.delete(info.key)


def first(mailbox: Mailbox) -> Entry:
    """The first lease."""
    return Ledger(mailbox).entries()[0]


def lived_s(mailbox: Mailbox) -> float:
    """How long the first lease was counted; its cost fits."""
    entry = first(mailbox)
    assert entry.gone.cost == pytest.approx(
        entry.intent.cost.per_hour * entry.gone.lived_s / HOUR_S
    )
    return entry.gone.lived_s
