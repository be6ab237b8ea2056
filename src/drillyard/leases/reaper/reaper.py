"""Lists the leases of each backend, ends expired ones, and confirms it by listing again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drillyard.backend import Backend, Lease, Liveness, delays_of, open_backend
from drillyard.errors import ConfigError, DrillyardError, PluginError
from drillyard.leases.ledger import Intent, local_intents
from drillyard.leases.lost_attempts import probe
from drillyard.leases.reaper.audit import Audit
from drillyard.leases.reaper.end_one_lease import LeaseReaping, note_gone
from drillyard.leases.reaper.evidence import gather
from drillyard.leases.reaper.report import Report
from drillyard.leases.reaper.verdict import GRACE_S, judge
from drillyard.leases.reasons import Reasons, Say
from drillyard.registry import names
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import run_steps
from drillyard.system.safe_names import LEASE

CONFIRM_S = 60.0
_AT_ONCE = 8
log = logging.getLogger(__name__)


Steps = Callable[[Callable[[LeaseReaping], None], Sequence[LeaseReaping]], Iterable[None]]
"""Calls a function with each item, like ``map``, and possibly several at once."""


class Reaper:
    """Ends every lease that has expired, in steps: one backend after the other.

    Args:
        on: Backends as text, ``gcp/prod``; None: every configured one, and those that this machine
            has rented from with an experiment's own settings.
        dry_run: Only judge, delete nothing.
        grace_s: Seconds for which a useless lease is left alone.
        clock: For the audit log.
        home: The local folder, ``DRILLYARD_HOME``.
        confirm_s: How long to wait for a provider's listing, besides its own delay.
        each: Steps several leases; default one after the other.
        say: Called with what a provider says about machines that do not end.

    Attributes:
        report: The results so far.
    """

    def __init__(
        self,
        on: Sequence[str] | None,
        *,
        dry_run: bool,
        grace_s: float,
        clock: Clock,
        home: Path | None,
        confirm_s: float,
        each: Steps = map,
        say: Say = log.info,
    ) -> None:
        self.report = Report()
        self._reasons = Reasons(say)
        self._sources = _backends(on, self.report, home)
        self._source: tuple[Backend, list[Intent]] | None = None
        self._name = ""
        self._listed: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        self._leases: list[LeaseReaping] = []
        self._dry_run = dry_run
        self._grace_s = grace_s
        self._clock = clock
        self._home = home
        self._confirm_s = confirm_s
        self._audit = Audit(None if home is None else home / "audit.jsonl", clock)
        self._each = each

    def step(self, now: float) -> float | None:
        """List the next backend, or continue with the leases of this one.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None after the last backend. A problem with one lease or
            backend is reported, and not raised.
        """
        if self._source is None:
            source = next(self._sources, None)
            if source is None:
                return None
            self._list(*source)
            return 0.0
        due = [lease for lease in self._leases if lease.outcome is None and lease.due <= now]
        for _ in self._each(lambda lease: _step(lease, now), due):
            pass
        left = [lease.due for lease in self._leases if lease.outcome is None]
        if left:
            return max(0.0, min(left) - now)
        self.report.outcomes += [lease.outcome for lease in self._leases if lease.outcome]
        backend, intents = self._source
        if not self._dry_run:
            try:
                self.report.settled += _settle(
                    backend, intents, self._listed, self._grace_s, self._clock, self._home
                )
            except DrillyardError as error:
                self.report.problems[self._name] = str(error)
        self._source = None
        return 0.0

    def _list(self, text: str, backend: Backend, intents: list[Intent]) -> None:
        try:
            listed = [lease for lease in backend.leases() if LEASE.match(lease.lease_id)]
        except DrillyardError as error:
            self.report.problems[text] = str(error)
            return
        self._source, self._name = (backend, intents), text
        self._listed = {lease.lease_id for lease in listed}
        fresh = [
            listed_lease
            for listed_lease in listed
            if (backend.kind, listed_lease.lease_id) not in self._seen
        ]
        self._seen |= {(backend.kind, listed_lease.lease_id) for listed_lease in fresh}
        self._leases = [
            LeaseReaping(
                backend,
                lease,
                self._audit,
                self._clock,
                dry_run=self._dry_run,
                grace_s=self._grace_s,
                confirm_s=self._confirm_s,
                home=self._home,
                reasons=self._reasons,
            )
            for lease in fresh
        ]


def _step(lease: LeaseReaping, now: float) -> None:
    lease.step(now)


def configured() -> list[str]:
    """Backends, as text, whose settings are complete here."""
    from drillyard.backend.settings.resolve import resolve

    kinds = []
    for kind in names("backends"):
        try:
            resolve(kind)
        except (ConfigError, PluginError) as error:
            log.debug("backend %s is not configured: %s", kind, error)
        except DrillyardError as error:
            log.warning("backend %s: %s", kind, error)
        else:
            kinds.append(kind)
    return kinds


def reap(
    on: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    clock: Clock = SYSTEM,
    home: Path | None = None,
    confirm_s: float | None = None,
    say: Say = log.info,
) -> Report:
    """End every lease that has expired; see ``Reaper``.

    Args:
        on: Backends as text; None: every configured one, and those that this machine rented from.
        dry_run: Only judge, delete nothing.
        grace_s: Seconds for which a useless lease is left alone.
        clock: For waiting and the audit log.
        home: The local folder, ``DRILLYARD_HOME``.
        confirm_s: How long to wait for a provider's listing, besides its own delay; None:
            a minute.
        say: Called with what a provider says about machines that do not end.

    Returns:
        The results. A problem with one lease or backend is reported, and not raised.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        reaper = Reaper(
            on,
            dry_run=dry_run,
            grace_s=grace_s,
            clock=clock,
            home=home,
            confirm_s=CONFIRM_S if confirm_s is None else confirm_s,
            each=threads.map,
            say=say,
        )
        run_steps(reaper.step, clock)
    return reaper.report


def _backends(
    on: Sequence[str] | None, report: Report, home: Path | None
) -> Iterator[tuple[str, Backend, list[Intent]]]:
    """(name for messages, backend, this machine's intents there)."""
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


def _settle(
    backend: Backend,
    intents: Sequence[Intent],
    listed: set[str],
    grace_s: float,
    clock: Clock,
    home: Path | None,
) -> list[str]:
    """Write down that leases of this machine's intents are gone, if no provider lists them."""
    settled = []
    for intent in intents:
        lease = Lease(
            lease_id=intent.order.lease_id,
            backend=intent.backend,
            order=intent.order,
            created_at=intent.written_at,
        )
        if lease.lease_id in listed or probe(backend, lease) is not Liveness.GONE:
            continue
        facts = gather(backend, lease, clock)
        young_s = grace_s + 2.0 * delays_of(backend).listing_lag_s
        if facts.now - intent.written_at < young_s:
            continue
        if facts.facts.driven or facts.facts.open_tickets:
            continue  # its driver does it, or the next command
        if note_gone(facts, lease, judge(facts.facts, grace_s), home, found=True):
            settled.append(lease.lease_id)
    return settled
