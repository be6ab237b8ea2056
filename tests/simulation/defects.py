"""Defects that are put back on purpose, to show that the simulation finds them.

Each names the finding that it stands for, where there is one, and replaces some functions of the
product by what they were, or by what a hurried author would write.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drillyard.backend import Liveness
from drillyard.driver.heartbeat import Heartbeat
from drillyard.driver.stages import Stages
from drillyard.errors import DrillyardError, InfrastructureError, Superseded
from drillyard.leases import budget
from drillyard.leases.ledger import Gone, Intent
from drillyard.leases.reaper.verdict import GRACE_S, Facts, Judgement, Verdict, judge
from drillyard.leases.release import Release
from drillyard.mailbox import Mailbox
from drillyard.mailbox.folder import Folder
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Accepted, Claim, DriverRecord, Ending, FileEntry
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import Cause
from drillyard.system.safe_names import lease_id

Patches = tuple[tuple[str, Any], ...]
_MAILBOX = "drillyard.mailbox.mailbox.Mailbox"
_LOCK = "drillyard.mailbox.driver_lock"
_TIME = "drillyard.mailbox.store_clock.StoreClock"
_STAGES = "drillyard.driver.stages.Stages"
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


def _named_only(mailbox: Any, path: str, source: bytes | Path) -> FileEntry:
    data = source if isinstance(source, bytes) else source.read_bytes()
    return FileEntry(key=path, sha256=sha256_hex(data), size=len(data))


def _absent(self: Any, path: str, kind: Any, _real: Any = Folder.read) -> Any:
    """A store that does not answer counts as empty."""
    try:
        return _real(self, path, kind)
    except InfrastructureError:
        return None


def _by_token_only(self: Any, claim: Claim) -> None:
    """Only the claim is read: an attempt that was closed as lost goes on."""
    now = self.read_claim(claim.ticket, claim.attempt)
    if now is None or now.token != claim.token:
        raise Superseded(f"attempt {claim.attempt} of {claim.ticket} belongs to another worker")


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


def _hours_only(*, max_cost: float | None, _real: Any = budget.allowance, **given: Any) -> Any:
    return _real(max_cost=None, **given)


def _free_of_time(self: Any, lease: str, reason: str, *, confirmed: bool = True) -> None:
    """The ledger forgets what a lease has cost once it ended."""
    entry = self.entry(lease)
    if entry is not None and entry.gone is None:
        now = self._clock.now()
        gone = Gone(lease_id=lease, reason=reason, lived_s=0.0, written_at=now)
        self._mailbox.write(f"leases/{lease}/gone.json", gone)


# -- stages ---------------------------------------------------------------------------------------


def _begin_at_once(self: Any, stage: Any) -> None:
    self._begin(stage)


def _one_at_a_time(self: Any, stage: Any, _real: Any = Stages._begin_if_due) -> None:
    if not any(other.state.status == "running" for other in self.stages.values()):
        _real(self, stage)


def _end_all(self: Any, stage: Any, outcome: Any, _real: Any = Stages._end) -> None:
    """A stage that fails stops those that do not depend on it, too."""
    _real(self, stage, outcome)
    if stage.state.status == "failed":
        self.stop("a stage failed")


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


def _intend_over(self: Any, order: Any, backend: str, ordinal: int, cost: Any) -> Intent:
    """As ``write``: over the intent of another driver."""
    intent = Intent(
        order=order, backend=backend, ordinal=ordinal, cost=cost, written_at=self._clock.now()
    )
    self._mailbox.write(f"leases/{order.lease_id}/intent.json", intent)
    return intent


def _own_time(self: Any) -> float:
    """Leases by this machine's time of day."""
    now: float = self._clock.now()
    return now


def _asked_once(self: Any) -> float:
    """The store's time at the beginning, and then the monotonic clock's."""
    if self._ahead is None:
        self._ahead = self._store.now() - self._clock.monotonic()
    return float(self._ahead + self._clock.monotonic())


def _first_free(self: Any) -> tuple[int, str]:
    """The number of a lease that has ended is given again."""
    ordinal = sum(entry.open for entry in self.entries()) + 1
    return ordinal, lease_id(self._mailbox.store.url, self._mailbox.experiment, ordinal)


def _write_always(self: Any, path: str, record: Any) -> bool:
    self.store.put(self.key(path), record.to_bytes())
    return True


def _beat_or_die(self: Any, now: float) -> float:
    """What the store raises is not caught."""
    self._lock.beat()
    return 2.0


def _no_mercy(facts: Facts, grace_s: float = 0.0) -> Judgement:
    return Judgement(Verdict.EXPIRED, "it exists")


def _unprotected(facts: Facts, grace_s: float = GRACE_S) -> Judgement:
    """What a person protects is judged like the rest."""
    return judge(dataclasses.replace(facts, protected_s=0.0), grace_s)


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
    "a result is accepted over another": lambda: (
        (f"{_MAILBOX}.accept", _accept_over),
        (f"{_MAILBOX}.must_own", _nothing),
    ),
    "the manifest comes after its acceptance": lambda: (
        ("drillyard.worker.hand_in.HandIn.__call__", _manifest_last),
    ),
    "a kept ending is not written again": lambda: (
        ("drillyard.worker.outbox.EndingOutbox.write_again", _nothing),
    ),
    "silence is death (L1)": lambda: ((f"{_LOST}.probe", _drop(Liveness.GONE)),),
    "UNKNOWN is GONE": lambda: ((f"{_LOST}.probe", _unknown_is_gone),),
    "lost attempts stay open": lambda: (
        (f"{_LOST}.LostAttemptCloser.close_lost", _drop({})),
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
    "a living driver is replaced": lambda: (
        (f"{_LOCK}.living", _everybody),
        (f"{_LOCK}.DriverLock._alive", _everybody),
    ),
    "a superseded driver goes on (L5)": lambda: ((f"{_LOCK}.DriverLock.must_drive", _nothing),),
    "a stage does not wait for those that it names": lambda: (
        (f"{_STAGES}._begin_if_due", _begin_at_once),
    ),
    "stages wait for all before them": lambda: ((f"{_STAGES}._begin_if_due", _one_at_a_time),),
    "a stage that fails stops the others": lambda: ((f"{_STAGES}._end", _end_all),),
    "each lease has all of max_cost": lambda: (
        ("drillyard.leases.ledger.Ledger.spent", _drop(0.0)),
    ),
    "max_cost is not looked at": lambda: (("drillyard.leases.budget.allowance", _hours_only),),
    "errors leave the tree (M2)": lambda: (
        ("drillyard.backend.translation._translated", _untranslated),
    ),
    "no patience with a provider (M3)": lambda: (
        ("drillyard.driver.watcher.Patience.decided", _impatient),
    ),
    "one refused request ends the provisioning": lambda: (
        ("drillyard.driver.six_phases.PROVISION_PATIENCE_S", 0.0),
    ),
    "an outage ends the thread of the heartbeat": lambda: (
        ("drillyard.driver.heartbeat.Heartbeat.step", _beat_or_die),
    ),
    "put-if-absent is a put": lambda: (("drillyard.mailbox.folder.Folder.create", _write_always),),
    "an unreachable store counts as empty": lambda: (
        ("drillyard.mailbox.folder.Folder.read", _absent),
    ),
    "a closed attempt hands in": lambda: ((f"{_MAILBOX}.must_own", _by_token_only),),
    "files are named and not stored": lambda: (
        ("drillyard.mailbox.files.save_file", _named_only),
    ),
    "another hash of the manifest is accepted": lambda: (
        ("drillyard.worker.hand_in.sha256_hex", _drop("0" * 64)),
    ),
    "every foreign process is dead": lambda: ((f"{_LOST}.process_alive", _drop(False)),),
    "a claim whose answer was lost is forgotten": lambda: (
        ("drillyard.worker.claiming.found_again", _drop(False)),
    ),
    "leases by the own clock": lambda: ((f"{_TIME}.now", _own_time),),
    "the store's time is asked once": lambda: ((f"{_TIME}.now", _asked_once),),
    "a driver does not look at the limit": lambda: (
        ("drillyard.leases.manager.LeaseManager.over", _drop(False)),
    ),
    "a suspended driver writes its intent (L5)": lambda: (
        ("drillyard.mailbox.fenced.Fenced.write", Mailbox.write),
        ("drillyard.mailbox.fenced.Fenced.create", Mailbox.create),
        ("drillyard.leases.ledger.Ledger.intend", _intend_over),
        ("drillyard.leases.ledger.Ledger.must_be_open", _drop(None)),
    ),
    "numbers of leases are given again": lambda: (
        ("drillyard.leases.ledger.Ledger.next_lease", _first_free),
    ),
    "the reaper ends what it sees": lambda: (
        ("drillyard.leases.reaper.end_one_lease.judge", _no_mercy),
    ),
    "the reaper ends what is protected": lambda: (
        ("drillyard.leases.reaper.end_one_lease.judge", _unprotected),
    ),
    "machines without work stay": lambda: (
        ("drillyard.worker.worker.Worker._idle", _drop(False)),
    ),
    "the winner is not run again": lambda: (
        ("drillyard.studies.confirmation.Confirmation.confirm", _drop(False)),
    ),
}
"""Name -> what to replace, by dotted name."""
