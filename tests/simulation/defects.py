"""Defects that are put back on purpose, to show that the simulation finds them.

Each names the finding that it stands for, where there is one, and replaces some functions of the
product by what they were, or by what a hurried author would write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from drillyard.backend import Liveness
from drillyard.driver.heartbeat import Heartbeat
from drillyard.errors import DrillyardError, InfrastructureError
from drillyard.leases.ledger import Gone
from drillyard.leases.release import Release
from drillyard.mailbox.records import Accepted, Claim, DriverRecord, Ending
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import Cause

Patches = tuple[tuple[str, Any], ...]
_MAILBOX = "drillyard.mailbox.mailbox.Mailbox"
_LOCK = "drillyard.mailbox.driver_lock"
_LOST = "drillyard.leases.lost_attempts"


def patches_of(name: str | None) -> Patches:
    """What to replace for a defect, by dotted name; nothing for None."""
    return () if name is None else DEFECTS[name]()


# -- results and attempts -------------------------------------------------------------------------


def _claim_over(self: Any, claim: Claim) -> bool:
    self.write(f"claims/{claim.ticket}.{claim.attempt}.json", claim)
    return True


def _end_over(self: Any, ending: Ending) -> bool:
    self.write(f"claims/{ending.ticket}.{ending.attempt}.ended.json", ending)
    return True


def _accept_over(self: Any, claim: Claim, accepted: Accepted) -> bool:
    self.write(f"runs/{accepted.run}/{accepted.phase.value}.accepted.json", accepted)
    return True


def _manifest_last(self: Any) -> Ending:
    """The accepted record before the manifest that it names."""
    from drillyard.worker import endings

    self._mailbox.must_own(self._claim)
    self._mailbox.accept(self._claim, self._accepted)
    self._mailbox.write(self._path, self._outcome.files)
    return endings.succeeded(self._claim, self._clock, status=self._accepted.status)


# -- the end of machines --------------------------------------------------------------------------


def _once(self: Any, now: float) -> float | None:
    """Ask once, and believe it."""
    try:
        self._backend.teardown(self._lease)
    except DrillyardError:
        return None
    return None


def _hasty(
    self: Any, backend: Any, lease: Any, *, timeout_s: float, _real: Any = Release.__init__
) -> None:
    """The listing's delay is not waited out."""
    _real(self, backend, lease, timeout_s=timeout_s)
    self._settle_s = 0.0


def _no_intent(self: Any, order: Any, backend: str, ordinal: int, cost: Any) -> None:
    """The lease is written down once it is rented, not before."""


def _unknown_is_gone(backend: Any, lease: Any, ticket: str | None = None) -> Liveness:
    try:
        found: Liveness = backend.probe(lease, ticket)
    except InfrastructureError:
        return Liveness.GONE
    return found


def _free_of_time(self: Any, lease: str, reason: str, *, confirmed: bool = True) -> None:
    """The ledger forgets what a lease has cost once it ended."""
    entry = self.entry(lease)
    if entry is not None and entry.gone is None:
        now = self._clock.now()
        gone = Gone(lease_id=lease, reason=reason, lived_s=0.0, written_at=now)
        self._mailbox.write(f"leases/{lease}/gone.json", gone)


# -- drivers --------------------------------------------------------------------------------------


def _slow_beat(self: Any, now: float, _real: Any = Heartbeat.step) -> float | None:
    """After one slow look, no heartbeat for ten times as long."""
    pause = _real(self, now)
    return None if pause is None else 37.0


def _own_clock(self: Any, path: str) -> float | None:
    """The age of a heartbeat by this machine's clock."""
    info = self.store.stat(self.key(path))
    return None if info is None else time.time() - info.updated_at


def _by_name_and_pid(record: Any) -> bool | None:
    """A host name and a pid as proof of death."""
    from drillyard.system.processes import ProcessId

    here = _lock().host()
    if record.host != here or not record.pid:
        return None
    return ProcessId(record.pid, record.pid_started).alive()


def _lock() -> Any:
    from drillyard.mailbox import driver_lock

    return driver_lock


def _everybody(mailbox: Any, record: DriverRecord) -> bool:
    """A driver that was heard of for 30 seconds less is dead: every other one is."""
    return False


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _drop(result: Any) -> Callable[..., Any]:
    return lambda *_, **__: result


def _untranslated(error: Exception, verb: str, kind: str, translate: Any) -> Exception:
    """What a library raises leaves the backend as it is."""
    return error


def _impatient(self: Any, error: Exception, now: float) -> DrillyardError | None:
    from drillyard.errors import Bug

    return error if isinstance(error, DrillyardError) else Bug(repr(error))


DEFECTS: dict[str, Callable[[], Patches]] = {
    "a claim is written over": lambda: ((f"{_MAILBOX}.claim", _claim_over),),
    "an ending is written over": lambda: ((f"{_MAILBOX}.end", _end_over),),
    "a result is accepted over another": lambda: ((f"{_MAILBOX}.accept", _accept_over),),
    "the manifest comes after its acceptance": lambda: (
        ("drillyard.worker.hand_in.HandIn.__call__", _manifest_last),
    ),
    "a kept ending is not written again": lambda: (
        ("drillyard.worker.outbox.EndingOutbox.write_again", _nothing),
    ),
    "silence is death (L1)": lambda: ((f"{_LOST}.probe", _drop(Liveness.GONE)),),
    "UNKNOWN is GONE": lambda: ((f"{_LOST}.probe", _unknown_is_gone),),
    "lost attempts stay open": lambda: (
        (f"{_LOST}.LostAttemptCloser.close_lost", _drop([])),
        ("drillyard.worker.orphans.OrphanCloser.step", _nothing),
    ),
    "attempts are not limited": lambda: (
        ("drillyard.mailbox.retries.RETRIES", {**RETRIES, Cause.INFRASTRUCTURE: 99}),
    ),
    "workers do not read the order to stop": lambda: ((f"{_MAILBOX}.cancelled", _drop(None)),),
    "machines are written down after they exist (F24)": lambda: (
        ("drillyard.leases.ledger.Ledger.intend", _no_intent),
    ),
    "a deletion is asked for once (M5)": lambda: (
        ("drillyard.leases.release.Release.step", _once),
    ),
    "the listing's delay is not waited out (F24)": lambda: (
        ("drillyard.leases.release.Release.__init__", _hasty),
    ),
    "the ledger forgets the cost": lambda: (
        ("drillyard.leases.ledger.Ledger.gone", _free_of_time),
    ),
    "the driver's heartbeat waits (L1)": lambda: (
        ("drillyard.driver.heartbeat.Heartbeat.step", _slow_beat),
    ),
    "heartbeats by the own clock": lambda: ((f"{_MAILBOX}.age", _own_clock),),
    "host name and pid as proof of death (L3)": lambda: (
        (f"{_LOCK}.process_alive", _by_name_and_pid),
    ),
    "a living driver is replaced": lambda: ((f"{_LOCK}.living", _everybody),),
    "a superseded driver goes on (L5)": lambda: ((f"{_LOCK}.DriverLock.must_drive", _nothing),),
    "errors leave the tree (M2)": lambda: (
        ("drillyard.backend.translation._translated", _untranslated),
    ),
    "no patience with a provider (M3)": lambda: (
        ("drillyard.driver.watcher.Patience.decided", _impatient),
    ),
}
"""Name -> what to replace, by dotted name."""
