"""Preempts the machine of a run on purpose, to test that nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass

from drillyard.backend import Lease, SimulatesPreemption, open_backend
from drillyard.errors import NotFound, UserError
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import WorkerRecord


@dataclass(frozen=True, slots=True)
class PreemptedMachine:
    """A machine that was taken away.

    Attributes:
        run: Whose it was.
        machine: Its name.
        lease: Id of its lease.
    """

    run: str
    machine: str
    lease: str


def simulate_preemption(mailbox: Mailbox, run: str) -> PreemptedMachine:
    """Ask the provider to preempt the machine that works on a run; returns at once.

    Args:
        mailbox: The experiment.
        run: Its run.

    Raises:
        NotFound: No worker works on the run.
        UserError: Its backend has no machines that can be taken away.
    """
    worker = _worker(mailbox, run)
    lease = _lease(mailbox, worker)
    backend = open_backend(lease.backend, lease.order.settings)
    if not isinstance(backend, SimulatesPreemption):
        raise UserError(
            f"backend {lease.backend!r} has no machines that can be preempted",
            hint="to try it without a cloud: drillyard rehearse FILE --on gcp --fault preempt=1",
        )
    backend.simulate_preemption(lease, worker.host)
    return PreemptedMachine(run, worker.host, lease.lease_id)


def _worker(mailbox: Mailbox, run: str) -> WorkerRecord:
    claimed: dict[str, int] = {}
    for ticket, attempt, _ in mailbox.claims():
        if ticket.startswith(f"{run}."):
            claimed[ticket] = max(attempt, claimed.get(ticket, 0))
    workers = {worker.worker: worker for worker in mailbox.workers()}
    for ticket, attempt in claimed.items():
        claim = mailbox.read_claim(ticket, attempt)
        if claim is None or mailbox.ending(ticket, attempt) is not None:
            continue
        if claim.worker in workers:
            return workers[claim.worker]
    raise NotFound(f"no worker works on {run} now", hint="drillyard status shows the workers")


def _lease(mailbox: Mailbox, worker: WorkerRecord) -> Lease:
    entry = Ledger(mailbox).entry(worker.lease)
    if entry is None or not entry.open:
        raise NotFound(f"the lease {worker.lease} of {worker.worker} has ended")
    return entry.lease
