"""What of the mailbox belongs to machines: which one has a ticket, and their last words."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from drillyard.backend import Liveness, Order
from drillyard.errors import CorruptObject, DrillyardError, NewerVersion
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.holders import holder
from drillyard.mailbox.records import Record
from drillyard.mailbox.store import ObjectMissing
from drillyard_backends.gcp.managed import Stage
from drillyard_backends.gcp.naming import Machine

LOG_TAIL = 1 << 20
"""Bytes that are kept of a machine's log."""
_STAMPS_S = 2.0
"""By how much the times of two objects of a bucket may be off against each other."""
log = logging.getLogger(__name__)


def mailbox_of(order: Order) -> Mailbox | None:
    """The experiment of an order; None for an outline that does not know it."""
    if not order.store_url or not order.experiment:
        return None
    try:
        return Mailbox(open_store(order.store_url), order.experiment)
    except DrillyardError:
        return None


@dataclass(frozen=True)
class Holder:
    """The machine that holds a ticket.

    Attributes:
        name: Its name. Google may give it again to another machine.
        number: Google's number of the newest machine of that name that has begun; None: unknown.
        group: The group of that machine by its own words, or None.
        succeeded: That machine began after the last word of the worker that holds the ticket: it
            is another one.
    """

    name: str
    number: str | None = None
    group: str | None = None
    succeeded: bool = False

    def liveness(self, listed: Iterable[tuple[str, str, Stage]]) -> Liveness:
        """Returns whether the machine lives.

        Args:
            listed: Name, number (empty: no machine) and stage of each machine that is listed.

        Returns:
            GONE only where it is listed no more, has ended, or another one has its name. UNKNOWN
            where a listed machine may be it.
        """
        machines = [
            (number, stage)
            for name, number, stage in listed
            if name == self.name and stage is not Stage.LOST
        ]
        if not machines or (self.succeeded and len(machines) == 1):
            return Liveness.GONE
        if self.succeeded:
            return Liveness.UNKNOWN
        if self.number is None:
            up = any(stage is not Stage.COMING for _, stage in machines)
            return Liveness.ALIVE if up else Liveness.UNKNOWN
        return Liveness.ALIVE if any(n == self.number for n, _ in machines) else Liveness.UNKNOWN


def holder_of(mailbox: Mailbox, lease_id: str, ticket_id: str) -> Holder | None:
    """The machine of a lease that holds a ticket's newest claim; None when nothing tells."""
    worker = holder(mailbox, lease_id, ticket_id)
    if worker is None or not worker.host:
        return None
    path = f"workers/{worker.worker}.json"
    began = f"leases/{lease_id}/machines/{worker.host}.json"
    started = mailbox.read(began, Started)
    if started is None:
        return Holder(worker.host)
    # By the bucket's own clock: machines' clocks may differ.
    words = [mailbox.store.stat(mailbox.key(key)) for key in (path, began)]
    last, first = (None if info is None else info.updated_at for info in words)
    succeeded = last is not None and first is not None and last + _STAMPS_S < first
    return Holder(worker.host, started.number or None, started.group, succeeded)


class Started(Record):
    """``leases/<id>/machines/<name>.json``: a machine has begun; which group it is of."""

    machine: str
    number: str
    """Google's of the machine."""
    group: str
    written_at: float


def begin(mailbox: Mailbox, lease_id: str, started: Started) -> None:
    """Record that a machine has begun.

    A second program on the same machine keeps the record of the first one, whose worker may still
    work: a later time would say that another machine has taken its place.

    Args:
        mailbox: The experiment.
        lease_id: The lease.
        started: The record.

    Raises:
        InfrastructureError: The store does not answer.
    """
    path = f"leases/{lease_id}/machines/{started.machine}.json"
    try:
        before = mailbox.read(path, Started)
    except (CorruptObject, NewerVersion):
        before = None
    if before is None or not started.number or before.number != started.number:
        mailbox.write(path, started)


WORKER_DONE = "the worker is done"
"""``MachineLeft.reason`` of a machine that found no more work."""
UNREADY = "the worker was never ready: "
"""It begins so where the machine could not be set up."""


class MachineLeft(Record):
    """``leases/<id>/left/<machine's number>.json``: this machine has finished its work."""

    machine: str
    reason: str
    written_at: float


def begun(mailbox: Mailbox | None, lease_id: str) -> list[Machine]:
    """The machines of a lease that have begun, ever, by their own words."""
    if mailbox is None:
        return []
    prefix = mailbox.key(f"leases/{lease_id}/machines/")
    names = (info.key[len(prefix) :] for info in mailbox.store.list(prefix))
    machines = (Machine.parse(name.removesuffix(".json")) for name in names)
    return [machine for machine in machines if machine is not None]


class DoneMachines:
    """The machines of a lease that ended because they had no more work, by their own words.

    Args:
        mailbox: Mailbox of the experiment; None where it is unknown.
        lease_id: The lease.
    """

    def __init__(self, mailbox: Mailbox | None, lease_id: str) -> None:
        self._mailbox = mailbox
        self._path = f"leases/{lease_id}/left/"
        self._read: dict[str, tuple[Machine, str] | None] = {}

    def __call__(self) -> set[Machine]:
        """Returns them; reads each record once.

        Raises:
            InfrastructureError: The store does not answer.
        """
        return {machine for machine, reason in self._left() if reason == WORKER_DONE}

    def unready(self) -> dict[Machine, str]:
        """Returns the machines that left before they were ready for work, and why.

        Raises:
            InfrastructureError: The store does not answer.
        """
        return {m: why.removeprefix(UNREADY) for m, why in self._left() if why.startswith(UNREADY)}

    def _left(self) -> list[tuple[Machine, str]]:
        if self._mailbox is None:
            return []
        prefix = self._mailbox.key(self._path)
        for info in self._mailbox.store.list(prefix):
            name = info.key[len(prefix) :]
            if name not in self._read:
                self._read[name] = self._machine(name)
        return [left for left in self._read.values() if left is not None]

    def _machine(self, name: str) -> tuple[Machine, str] | None:
        assert self._mailbox is not None
        try:
            left = self._mailbox.read(f"{self._path}{name}", MachineLeft)
        except (CorruptObject, NewerVersion) as error:
            log.warning("%s; its machine counts as lost", error)
            return None
        machine = None if left is None else Machine.parse(left.machine)
        return None if left is None or machine is None else (machine, left.reason)


def machine_logs(order: Order) -> dict[str, str]:
    """Last words of machines of a lease that are gone: name -> text."""
    mailbox = mailbox_of(order)
    if mailbox is None:
        return {}
    logs: dict[str, str] = {}
    prefix = mailbox.key(f"leases/{order.lease_id}/machines/")
    with contextlib.suppress(DrillyardError):
        for info in mailbox.store.list(prefix):
            if not info.key.endswith(".log"):
                continue
            with contextlib.suppress(ObjectMissing):
                text = mailbox.store.get(info.key).decode("utf-8", "replace")
                logs[info.key[len(prefix) :].removesuffix(".log")] = text
    return logs


def keep_log(order: Order, machine: str, text: str) -> None:
    """Keep a machine's last words; a store that is away loses them."""
    mailbox = mailbox_of(order)
    if mailbox is None:
        return
    data = text.encode()[-LOG_TAIL:]
    with contextlib.suppress(DrillyardError):
        mailbox.store.put(mailbox.key(f"leases/{order.lease_id}/machines/{machine}.log"), data)
