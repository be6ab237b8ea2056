"""Who has a ticket, as a backend asks before it tells whether that worker is alive."""

from __future__ import annotations

from drillyard.backend import Lease
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.holders import holder
from drillyard.mailbox.records import WorkerRecord


def holder_of(lease: Lease, ticket_id: str) -> WorkerRecord | None:
    """Returns the worker that claimed a ticket; None if the store does not tell."""
    order = lease.order
    if not order.store_url or not order.experiment:
        return None
    try:
        mailbox = Mailbox(open_store(order.store_url), order.experiment)
        return holder(mailbox, lease.lease_id, ticket_id)
    except DrillyardError:
        return None
