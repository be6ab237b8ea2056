"""Which worker holds a ticket, and whether it is a process of this machine."""

from __future__ import annotations

from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.records import WorkerRecord
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.system.processes import ProcessId


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


def runs_here(worker: WorkerRecord) -> bool | None:
    """Whether a worker is a process of this machine; None if the system cannot tell.

    The name of the host is not compared: it may have changed, and machines that were copied from
    one image may have the same.
    """
    here, there = (boot_id(), pid_namespace()), (worker.boot_id, worker.pid_namespace)
    if None in here or None in there or not worker.pid:
        return None
    return here == there and ProcessId(worker.pid, worker.pid_started).alive()
