"""The facts about a lease: its labels, its mailbox, and the clocks of both."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from drillyard.backend import Backend, HasClock, Lease
from drillyard.documents.json_types import as_number
from drillyard.errors import DrillyardError, NotFound
from drillyard.leases.ledger import Ledger
from drillyard.leases.reaper.verdict import Facts
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import living
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """The facts of a lease, its mailbox if it could be read, and the time that they are of."""

    facts: Facts
    mailbox: Mailbox | None
    now: float
    reachable: bool = True
    """False if the mailbox may be there, and could not be read."""


def gather(backend: Backend, lease: Lease, clock: Clock) -> Evidence:
    """Read everything that decides about a lease.

    It uses the clock of the provider or the store. The clock of this machine is used only without
    both, so that a wrong clock deletes nothing.

    Args:
        backend: Backend of the lease.
        lease: The lease as its provider lists it.
        clock: Clock of this machine.
    """
    mailbox, reachable = _mailbox(lease)
    now = _now(backend, mailbox, clock)
    deadline = lease.order.deadline
    overdue = None if deadline is None else now - deadline
    label = as_number(lease.provider.get("protected_until")) or 0.0
    blind = Facts(overdue_s=overdue, protected_s=label - now)
    if mailbox is None:
        return Evidence(blind, None, now, reachable)
    try:
        return Evidence(_from_mailbox(mailbox, lease, blind, now, label), mailbox, now)
    except DrillyardError as error:
        log.warning("the mailbox of lease %s cannot be read: %s", lease.lease_id, error)
        return Evidence(blind, None, now, reachable=False)


def _mailbox(lease: Lease) -> tuple[Mailbox | None, bool]:
    """The mailbox of a lease, and whether its store answered."""
    order = lease.order
    if not order.store_url or not order.experiment:
        return None, True
    try:
        mailbox = Mailbox(open_store(order.store_url), order.experiment)
        # "No such experiment" from a bucket is an answer. A missing folder is not: it may be on
        # another machine.
        there = mailbox.store.stat(mailbox.key("experiment.json")) is not None
        return mailbox if there or "://" in order.store_url else None, True
    except DrillyardError as error:
        log.warning("the mailbox of lease %s cannot be reached: %s", lease.lease_id, error)
        return None, False


def _now(backend: Backend, mailbox: Mailbox | None, clock: Clock) -> float:
    asked = [backend.now] if isinstance(backend, HasClock) else []
    if mailbox is not None:
        asked.append(mailbox.store.now)
    for now in asked:
        try:
            return now()
        except DrillyardError as error:
            log.warning("the clock of %s or of its store does not answer: %s", backend.kind, error)
    return clock.now()


def _from_mailbox(mailbox: Mailbox, lease: Lease, blind: Facts, now: float, label: float) -> Facts:
    ledger = Ledger(mailbox)
    entry = ledger.entry(lease.lease_id)
    until = max(label, ledger.protected_until(lease.lease_id))
    try:
        mailbox.experiment_record()
        states = ticket_states(mailbox)
    except NotFound:
        states = {}
    driver = mailbox.driver()
    ages = [now - lease.created_at]
    for path in (
        *([f"driver/{driver.number}.json"] if driver is not None else []),
        f"leases/{lease.lease_id}/gone.json",
    ):
        age = mailbox.age(path)
        if age is not None:
            ages.append(age)
    store_now = mailbox.store.now()
    ages += [store_now - info.updated_at for info in mailbox.store.list(mailbox.key("claims/"))]
    return Facts(
        overdue_s=blind.overdue_s,
        protected_s=until - now,
        readable=True,
        driven=driver is not None and living(mailbox, driver),
        open_tickets=sum(not state.status.ended for state in states.values()),
        gone=entry is not None and not entry.open,
        in_ledger=entry is not None,
        quiet_s=min(ages),
    )
