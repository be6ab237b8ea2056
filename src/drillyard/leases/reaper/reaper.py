"""Lists what each backend owns, ends what has expired, confirms by the listing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from drillyard.backend import Backend, Lease, Liveness, listing_lag_s, open_backend, teardown_s
from drillyard.errors import ConfigError, DrillyardError, PluginError
from drillyard.leases.ledger import Intent, Ledger, forget_intent, local_intents
from drillyard.leases.lost_attempts import probe
from drillyard.leases.reaper.audit import Audit
from drillyard.leases.reaper.evidence import Evidence, gather
from drillyard.leases.reaper.judging import GRACE_S, Judgement, Verdict, judge
from drillyard.leases.release import vacate
from drillyard.mailbox import Mailbox
from drillyard.registry import names
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.safe_names import LEASE

CONFIRM_S = 60.0
ALARM_AFTER = 2
"""Failures in a row after which somebody must be told."""
_AT_ONCE = 8
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a lease.

    Attributes:
        lease: As its provider listed it.
        judgement: The verdict and why.
        deleted: True: ended and confirmed; False: tried in vain; None: not tried.
        problem: Why it was in vain.
        failures: How often in a row.
    """

    lease: Lease
    judgement: Judgement
    deleted: bool | None = None
    problem: str = ""
    failures: int = 0

    @property
    def undeletable(self) -> bool:
        """True where deleting failed again and again: somebody must look."""
        return self.deleted is False and self.failures >= ALARM_AFTER


@dataclass
class Report:
    """What a reaper saw and did.

    Attributes:
        outcomes: One a lease.
        problems: Backend -> why it could not be listed.
        settled: Leases that only this machine still remembered, and that are gone.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)

    @property
    def undeletable(self) -> list[Outcome]:
        """Those about which somebody must be told."""
        return [o for o in self.outcomes if o.undeletable]

    @property
    def good(self) -> bool:
        """True when everything that had expired is gone, and every backend was listed."""
        return not self.problems and all(o.deleted is not False for o in self.outcomes)


def configured() -> list[str]:
    """Backends, by text, whose settings are complete here."""
    from drillyard.backend.settings.resolve import resolve

    found = []
    for kind in names("backends"):
        try:
            resolve(kind)
        except (ConfigError, PluginError) as error:
            log.debug("backend %s is not configured: %s", kind, error)
        except DrillyardError as error:
            log.warning("backend %s: %s", kind, error)
        else:
            found.append(kind)
    return found


def reap(
    on: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    clock: Clock = SYSTEM,
    home: Path | None = None,
    confirm_s: float | None = None,
) -> Report:
    """End every lease that has expired.

    Args:
        on: Backends by text, ``gcp/prod``; None: every configured one, and those that this
            machine has rented from with settings of an experiment's own.
        dry_run: Only look.
        grace_s: Seconds for which a useless lease is left alone.
        clock: For waiting and the audit log.
        home: The local folder, ``DRILLYARD_HOME``.
        confirm_s: How long to wait for a provider's listing, besides its own ``teardown_s``; None:
            a minute.

    Returns:
        What was seen and done; nothing is raised for a single lease or backend.
    """
    report = Report()
    patience_s = CONFIRM_S if confirm_s is None else confirm_s
    audit = Audit(None if home is None else home / "audit.jsonl", clock)
    seen: set[tuple[str, str]] = set()
    for text, backend, intents in _backends(on, report, home):
        try:
            listed = [lease for lease in backend.leases() if LEASE.match(lease.lease_id)]
        except DrillyardError as error:
            report.problems[text] = str(error)
            continue
        fresh = [one for one in listed if (backend.kind, one.lease_id) not in seen]
        seen |= {(backend.kind, one.lease_id) for one in fresh}

        def one(lease: Lease, backend: Backend = backend) -> Outcome:
            return _one(backend, lease, audit, dry_run, grace_s, clock, home, patience_s)

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            report.outcomes += threads.map(one, fresh)
        if not dry_run:
            there = {lease.lease_id for lease in listed}
            report.settled += _settle(backend, intents, there, grace_s, clock, home)
    return report


def _backends(
    on: Sequence[str] | None, report: Report, home: Path | None
) -> Iterator[tuple[str, Backend, list[Intent]]]:
    """(how it is called, backend, this machine's intents there)."""
    for text in configured() if on is None else on:
        try:
            yield text, open_backend(text), []
        except DrillyardError as error:
            report.problems[text] = str(error)
    groups: dict[tuple[str, str], list[Intent]] = {}
    for intent in local_intents(home):
        key = (intent.backend, json.dumps(intent.order.settings, sort_keys=True))
        groups.setdefault(key, []).append(intent)
    for (kind, _), intents in groups.items():
        if on is not None and kind not in {text.partition("/")[0] for text in on}:
            continue
        try:
            yield f"{kind} of this machine", open_backend(kind, intents[0].order.settings), intents
        except DrillyardError as error:
            report.problems[f"{kind} of this machine"] = str(error)


def _one(
    backend: Backend,
    lease: Lease,
    audit: Audit,
    dry_run: bool,
    grace_s: float,
    clock: Clock,
    home: Path | None,
    confirm_s: float,
) -> Outcome:
    evidence = gather(backend, lease, clock)
    judgement = judge(evidence.facts, grace_s)
    if judgement.verdict is not Verdict.EXPIRED or dry_run:
        return Outcome(lease, judgement)
    about = {
        "backend": lease.backend, "experiment": lease.order.experiment,
        "store": lease.order.store_url, "reason": judgement.reason,
    }  # fmt: skip
    try:
        audit.write("deleting", lease.lease_id, **about)
        vacate(backend, lease, timeout_s=confirm_s + teardown_s(backend), clock=clock)
        audit.write("deleted", lease.lease_id, **about)
    except DrillyardError as error:
        return _failed(lease, judgement, evidence, audit, about, str(error), clock)
    _note_gone(evidence.mailbox, lease, judgement, clock, home)
    return Outcome(lease, judgement, deleted=True)


def _failed(
    lease: Lease,
    judgement: Judgement,
    evidence: Evidence,
    audit: Audit,
    about: dict[str, str],
    problem: str,
    clock: Clock,
) -> Outcome:
    failures = 1
    try:
        audit.write("failed", lease.lease_id, problem=problem, **about)
        failures = audit.failures(lease.lease_id)
    except DrillyardError as error:
        log.warning("%s", error)
    if evidence.mailbox is not None:
        try:
            # A reaper that runs somewhere else each time has no log of the times before.
            counted = Ledger(evidence.mailbox, clock).reaping_failed(lease.lease_id, problem)
            failures = max(failures, counted)
        except DrillyardError as error:
            log.warning("%s", error)
    return Outcome(lease, judgement, deleted=False, problem=problem, failures=failures)


def _note_gone(
    mailbox: Mailbox | None, lease: Lease, judgement: Judgement, clock: Clock, home: Path | None
) -> None:
    forget_intent(lease.lease_id, home)
    if mailbox is not None:
        try:
            Ledger(mailbox, clock, home).gone(lease.lease_id, f"reaped: {judgement.reason}")
        except DrillyardError as error:
            log.warning("lease %s is gone; the ledger was not told: %s", lease.lease_id, error)


def _settle(
    backend: Backend,
    intents: Sequence[Intent],
    listed: set[str],
    grace_s: float,
    clock: Clock,
    home: Path | None,
) -> list[str]:
    """Close the books of leases that this machine remembers and the provider lists no more."""
    settled = []
    for intent in intents:
        lease = Lease(lease_id=intent.order.lease_id, backend=intent.backend, order=intent.order,
                      created_at=intent.written_at)  # fmt: skip
        young = clock.now() - intent.written_at < grace_s + 2.0 * listing_lag_s(backend)
        if lease.lease_id in listed or young or probe(backend, lease) is not Liveness.GONE:
            continue
        facts = gather(backend, lease, clock)
        if facts.facts.driven or facts.facts.open_tickets:
            continue  # its driver closes them, or the next command
        _note_gone(facts.mailbox, lease, judge(facts.facts, grace_s), clock, home)
        settled.append(lease.lease_id)
    return settled
