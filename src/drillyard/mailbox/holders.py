"""Which worker holds a ticket."""

from __future__ import annotations

from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.records import WorkerRecord


def holder(mailbox: Mailbox, lease_id: str, ticket_id: str) -> WorkerRecord | None:
    """Returns the worker of a lease that has a ticket; None if its claim ended or nothing tells.

    Args:
        mailbox: The experiment.
        lease_id: The lease.
        ticket_id: The ticket.
    """
    found = (mailbox.claim_of(key) for key in mailbox.claim_keys(f"{ticket_id}."))
    records = [(r[1], r[2]) for r in found if r is not None and r[0] == ticket_id]
    attempt, ended = max(records, default=(0, True))
    claim = None if ended else mailbox.read_claim(ticket_id, attempt)
    if claim is None:
        return None
    worker = mailbox.read(f"workers/{claim.worker}.json", WorkerRecord)
    return worker if worker is not None and worker.lease == lease_id else None
