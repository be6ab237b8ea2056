"""What an agent of the same lease left on this machine when it died: processes and claims."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable

from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import host
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import WorkerRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.clock import Clock
from drillyard.system.processes import ProcessId, end
from drillyard.worker import endings

GRACE_S = 8.0
"""They hear of their agent's death by themselves and may be flushing a checkpoint."""


def worker_id(lease: str) -> str:
    """A new id of a worker on this machine; that of its predecessors begins alike."""
    return f"{_stem(lease, host())}{secrets.token_hex(3)}"


def _stem(lease: str, host: str) -> str:
    # Hundreds of machines must not each read the records of all others.
    return f"{lease}-{sha256_hex(host.encode())[:4]}"


def bury(
    mailbox: Mailbox,
    me: ProcessId,
    record: WorkerRecord,
    orphans: Callable[[], Iterable[ProcessId]],
    clock: Clock,
    cause: Cause = Cause.INFRASTRUCTURE,
) -> None:
    """End what dead agents of a lease left on this machine, and their claims.

    Args:
        mailbox: The experiment.
        me: The agent that takes over.
        record: Its own record as a worker.
        orphans: Processes that may be left of them; asked only when one has died.
        clock: For the stamps.
        cause: What ended them.
    """
    others = [
        w for w in mailbox.workers(named=_stem(record.lease, record.host))
        if w.worker != record.worker and w.lease == record.lease and w.host == record.host
        and w.pid and not ProcessId(w.pid, w.pid_started).alive()
    ]  # fmt: skip
    if not others:
        return
    mine = {me.pid, os.getppid()}
    left = [p for p in orphans() if p.pid not in mine and p.started < me.started]
    end(left, grace_s=GRACE_S)
    dead = {w.worker for w in others}
    for name, state in ticket_states(mailbox).items():
        if state.status is not Status.RUNNING or state.attempt is None:
            continue
        claim = mailbox.read_claim(name, state.attempt)
        if claim is None or claim.worker not in dead:
            continue
        accepted = mailbox.accepted(state.ticket.run, state.ticket.phase)
        message = f"worker {claim.worker} died"
        if accepted is not None and accepted.attempt == claim.attempt:
            ending = endings.succeeded(claim, clock, message, accepted.status)
        else:
            ending = endings.failed(
                claim, clock, cause, message,
                hint="the next attempt goes on from the last checkpoint",
            )  # fmt: skip
        mailbox.end(ending.model_copy(update={"by": record.worker}))
