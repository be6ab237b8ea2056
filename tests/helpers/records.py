"""Records of a mailbox, of which a test says only what is special about them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drillyard.backend import Order
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import save_file
from drillyard.mailbox.mailbox import new_token, sha256_hex, ticket_id
from drillyard.mailbox.records import (
    Accepted,
    Board,
    Claim,
    DriverRecord,
    Ending,
    ExperimentRecord,
    Manifest,
    Phase,
    RunRecord,
    TicketRecord,
    WorkerRecord,
)
from drillyard.mailbox.status import Cause, Status
from drillyard.runs.workload import RunContext
from drillyard.spec import ExperimentSpec


def accepted(run: str = "t0001-s1", phase: Phase = Phase.TRAIN, **more: Any) -> Accepted:
    """A phase that succeeded at its first attempt."""
    told: dict[str, Any] = {
        "attempt": 1,
        "status": Status.SUCCEEDED,
        "manifest": "m",
        "manifest_sha256": "0",
        "started_at": 0.0,
        "ended_at": 0.0,
    }
    return Accepted(run=run, phase=phase, **{**told, **more})


def claim_of(ticket: str = "t0001-s1.train", attempt: int = 1, **more: Any) -> Claim:
    """A worker's claim."""
    told = {"worker": "w", "token": "t", "claimed_at": 0.0, **more}
    return Claim(ticket=ticket, attempt=attempt, **told)


def ticket_of(run: str = "t0001-s1", phase: Phase = Phase.TRAIN, **more: Any) -> TicketRecord:
    """A ticket of a phase, which waits for nothing."""
    told = {"ticket": ticket_id(run, phase), "posted_at": 0.0, **more}
    return TicketRecord(run=run, phase=phase, **told)


def order_of(store_url: str, **more: Any) -> Order:
    """An order of a lease that no other test has."""
    lease = f"dy-{uuid.uuid4().hex[:10]}"
    return Order(lease_id=lease, store_url=store_url, **{"experiment": "suite", **more})


def experiment_record(name: str = "x", **more: Any) -> ExperimentRecord:
    """An experiment of which only its record matters."""
    told = {"spec": {}, "identity": "x", "created_at": 0.0, **more}
    return ExperimentRecord(name=name, **told)


def context_of(
    mailbox: Mailbox,
    spec: ExperimentSpec,
    run: RunRecord,
    phase: Phase,
    scratch: Path,
    attempt: int = 1,
    **more: Any,
) -> RunContext:
    """What a worker hands to a phase once it has claimed its ticket."""
    claim = claim_of(f"{run.run}.{phase.value}", attempt, token=new_token())
    mailbox.claim(claim)
    own = {"spec": spec, "run": run, "phase": phase, "attempt": attempt, "claim": claim}
    return RunContext(mailbox=mailbox, scratch=scratch, **own, **more)


def result_of(
    mailbox: Mailbox,
    run: str,
    phase: Phase,
    files: Manifest | Mapping[str, bytes],
    attempt: int = 1,
    **more: Any,
) -> Accepted:
    """A result whose files are written, and which nobody has accepted yet."""
    folder = mailbox.attempt_path(run, phase, attempt)
    if not isinstance(files, Manifest):
        entries = {n: save_file(mailbox, f"{folder}/{n}", data) for n, data in files.items()}
        files = Manifest(files=entries)
    path = f"{folder}/manifest.json"
    mailbox.write(path, files)
    told = {"manifest": path, "manifest_sha256": sha256_hex(files.to_bytes()), **more}
    return accepted(run, phase, attempt=attempt, **told)


def failed(ticket: str, cause: Cause = Cause.INFRASTRUCTURE, **more: Any) -> Ending:
    """A first attempt that failed."""
    told: dict[str, Any] = {"attempt": 1, "status": Status.FAILED, "by": "w", "ended_at": 0.0}
    return Ending(ticket=ticket, cause=cause, **{**told, **more})


def board_of(run: str = "t0001-s1", phase: Phase = Phase.TRAIN, **more: Any) -> Board:
    """What a first attempt shows of its progress."""
    return Board(run=run, phase=phase, **{"attempt": 1, "worker": "w", "written_at": 0.0, **more})


def tell_worker(mailbox: Mailbox, worker: str, lease: str, **more: Any) -> None:
    """Writes the record of a worker, as its heartbeat does."""
    record = WorkerRecord(worker=worker, lease=lease, **{"written_at": 0.0, **more})
    mailbox.write(f"workers/{worker}.json", record)


def driver_of_process(pid: int = 1, **more: Any) -> DriverRecord:
    """The first driver, a process of another machine."""
    told: dict[str, Any] = {"number": 1, "host": "h", "pid_started": 0.0, "token": "t"}
    return DriverRecord(pid=pid, **{**told, "started_at": 0.0, "written_at": 0.0, **more})
