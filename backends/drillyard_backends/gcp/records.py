"""What of the mailbox belongs to machines: which one has a ticket, and their last words."""

from __future__ import annotations

import contextlib

from drillyard.backend import Order
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Record, WorkerRecord
from drillyard.mailbox.store import ObjectMissing

LOG_TAIL = 1 << 20
"""Bytes that are kept of a machine's log."""


def mailbox_of(order: Order) -> Mailbox | None:
    """The experiment of an order; None for an outline that does not know it."""
    if not order.store_url or not order.experiment:
        return None
    try:
        return Mailbox(open_store(order.store_url), order.experiment)
    except DrillyardError:
        return None


def machine_of(mailbox: Mailbox, lease_id: str, ticket_id: str) -> str | None:
    """The machine of a lease that holds a ticket's newest claim; None when nothing tells."""
    found = (mailbox.claim_of(key) for key in mailbox.claim_keys(f"{ticket_id}."))
    attempts = [claim[1] for claim in found if claim is not None and claim[0] == ticket_id]
    claim = mailbox.read_claim(ticket_id, max(attempts)) if attempts else None
    worker = mailbox.read(f"workers/{claim.worker}.json", WorkerRecord) if claim else None
    return worker.host if worker is not None and worker.lease == lease_id else None


class Started(Record):
    """``leases/<id>/machines/<name>.json``: a machine has begun; which group it is of."""

    machine: str
    number: str
    """Google's of the machine."""
    group: str
    written_at: float


def group_of(mailbox: Mailbox, lease_id: str, machine: str) -> str | None:
    """The group of a machine by its own words, or None."""
    started = mailbox.read(f"leases/{lease_id}/machines/{machine}.json", Started)
    return started.group if started else None


def machine_logs(order: Order) -> dict[str, str]:
    """Last words of machines of a lease that are gone: name -> text."""
    mailbox = mailbox_of(order)
    if mailbox is None:
        return {}
    found: dict[str, str] = {}
    prefix = mailbox.key(f"leases/{order.lease_id}/machines/")
    with contextlib.suppress(DrillyardError):
        for info in mailbox.store.list(prefix):
            if not info.key.endswith(".log"):
                continue
            with contextlib.suppress(ObjectMissing):
                text = mailbox.store.get(info.key).decode("utf-8", "replace")
                found[info.key[len(prefix) :].removesuffix(".log")] = text
    return found


def keep_log(order: Order, machine: str, text: str) -> None:
    """Keep a machine's last words; a store that is away loses them."""
    mailbox = mailbox_of(order)
    if mailbox is None:
        return
    data = text.encode()[-LOG_TAIL:]
    with contextlib.suppress(DrillyardError):
        mailbox.store.put(mailbox.key(f"leases/{order.lease_id}/machines/{machine}.log"), data)
