"""Which worker holds a ticket."""

from __future__ import annotations

from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.records import WorkerRecord


def holder(mailbox: Mailbox, lease_id: str, ticket_id: str) -> WorkerRecord | None:
    """Returns the worker of a lease that made a ticket's newest claim; None if nothing tells.

    Args:
        mailbox: The experiment.
        lease_id: The lease.
        ticket_id: The ticket.
    """
    found = (mailbox.claim_of(key) for key in mailbox.claim_keys(f"{ticket_id}."))
    attempts = [claim[1] for claim in found if claim is not None and claim[0] == ticket_id]
    claim = mailbox.read_claim(ticket_id, max(attempts)) if attempts else None
    if claim is None:
        return None
    worker = mailbox.read(f"workers/{claim.worker}.json", WorkerRecord)
    return worker if worker is not None and worker.lease == lease_id else None
