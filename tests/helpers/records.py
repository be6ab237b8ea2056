"""Records of a mailbox, of which a test says only what is special about them."""

from __future__ import annotations

from typing import Any

from drillyard.mailbox.records import Accepted, DriverRecord, Ending, Phase
from drillyard.mailbox.status import Cause, Status


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


def failed(ticket: str, cause: Cause = Cause.INFRASTRUCTURE, **more: Any) -> Ending:
    """A first attempt that failed."""
    told: dict[str, Any] = {"attempt": 1, "status": Status.FAILED, "by": "w", "ended_at": 0.0}
    return Ending(ticket=ticket, cause=cause, **{**told, **more})


def driver_of_process(pid: int = 1, **more: Any) -> DriverRecord:
    """The first driver, a process of another machine."""
    told: dict[str, Any] = {"number": 1, "host": "h", "pid_started": 0.0, "token": "t"}
    return DriverRecord(pid=pid, **{**told, "started_at": 0.0, "written_at": 0.0, **more})
