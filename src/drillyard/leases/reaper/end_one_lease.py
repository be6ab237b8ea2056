"""Judges one lease, ends it if it has expired, confirms the end, and writes it down."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from drillyard.backend import Backend, Lease, delays_of
from drillyard.errors import DrillyardError, StoreUnavailable
from drillyard.leases.ended_alone import FirstLook
from drillyard.leases.intent_files import forget_intent
from drillyard.leases.ledger import Ledger
from drillyard.leases.reaper.audit import Audit
from drillyard.leases.reaper.evidence import Evidence, gather
from drillyard.leases.reaper.report import Outcome
from drillyard.leases.reaper.verdict import Judgement, Verdict, judge
from drillyard.leases.reasons import Reasons
from drillyard.leases.release import Release
from drillyard.system.clock import Clock

log = logging.getLogger(__name__)


class LeaseReaping:
    """Handles one lease, in steps.

    Args:
        backend: Backend of the lease.
        lease: The lease as its provider lists it.
        audit: Gets a line for each deletion.
        clock: For the stamps.
        dry_run: Only judge, delete nothing.
        grace_s: Seconds for which a useless lease is left alone.
        confirm_s: How long to wait for the provider's listing, besides its own delay.
        home: The local folder, ``DRILLYARD_HOME``.
        reasons: Says why a provider has not ended it yet.

    Attributes:
        outcome: The result; None until it is known.
        due: Monotonic seconds of the next step.
    """

    def __init__(
        self,
        backend: Backend,
        lease: Lease,
        audit: Audit,
        clock: Clock,
        *,
        dry_run: bool,
        grace_s: float,
        confirm_s: float,
        home: Path | None,
        reasons: Reasons,
    ) -> None:
        self.outcome: Outcome | None = None
        self.due = float("-inf")
        self._backend = backend
        self._lease = lease
        self._audit = audit
        self._clock = clock
        self._dry_run = dry_run
        self._grace_s = grace_s
        self._home = home
        self._first_look: FirstLook | None = None
        self._evidence: Evidence | None = None
        self._judgement: Judgement | None = None
        self._timeout_s = confirm_s + delays_of(backend).teardown_s
        self._reasons = reasons
        self._release = self._begun()
        self._noted: str | None = None
        """Key of the record that says that the lease is being ended."""

    def step(self, now: float) -> float | None:
        """Judge the lease, or continue to end it.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None once ``outcome`` is known.
        """
        if self._used_again():
            self._evidence, self._noted = None, None
            self._release = self._begun()
        first = self._evidence is None
        if first:
            self._evidence = gather(self._backend, self._lease, self._clock)
            self._judgement = judge(self._evidence.facts, self._grace_s)
            if self._judgement.verdict is not Verdict.EXPIRED or self._dry_run:
                self.outcome = Outcome(self._lease, self._judgement)
                return None
        try:
            if first:
                self._first_look = FirstLook.at_lease(
                    self._backend, self._lease, self._clock.now()
                )
                self._audit.write("deleting", self._lease.lease_id, **self._about)
                self._note_ending()
            wait_s = self._release.step(now)
            if wait_s is not None:
                self.due = now + wait_s
                return wait_s
            self._audit.write("deleted", self._lease.lease_id, **self._about)
        except DrillyardError as error:
            self._failed(str(error))
        else:
            self._gone()
        return None

    def _begun(self) -> Release:
        return Release(
            self._backend, self._lease, timeout_s=self._timeout_s, reasons=self._reasons
        )

    @property
    def _about(self) -> dict[str, str]:
        lease, reason = self._lease, self._known.reason
        return {
            "backend": lease.backend,
            "experiment": lease.order.experiment,
            "store": lease.order.store_url,
            "reason": reason,
        }

    @property
    def _known(self) -> Judgement:
        assert self._judgement is not None, "judged in the first step"
        return self._judgement

    def _note_ending(self) -> None:
        """Tell a driver that sleeps, which may create something when it wakes."""
        mailbox = self._evidence.mailbox if self._evidence else None
        if mailbox is not None:
            with contextlib.suppress(DrillyardError):
                ledger = Ledger(mailbox)
                if ledger.entry(self._lease.lease_id) is not None:
                    self._noted = mailbox.key(ledger.ending(self._lease.lease_id))

    def _used_again(self) -> bool:
        """Whether a driver took the lease while this process slept: it deletes that record."""
        mailbox = self._evidence.mailbox if self._evidence else None
        if mailbox is None or self._noted is None:
            return False
        with contextlib.suppress(DrillyardError):
            return mailbox.store.stat(self._noted) is None
        return False

    def _gone(self) -> None:
        look, evidence = self._first_look, self._evidence
        assert look is not None and evidence is not None, "seen in the first step"
        found = look.ended_alone(self._clock.now())
        note_gone(evidence, self._lease, self._known, self._home, found=found)
        self.outcome = Outcome(self._lease, self._known, deleted=True)

    def _failed(self, problem: str) -> None:
        failures, lease_id = 1, self._lease.lease_id
        try:
            self._audit.write("failed", lease_id, problem=problem, **self._about)
            failures = self._audit.failures(lease_id)
        except DrillyardError as error:
            log.warning("%s", error)
        if self._evidence is not None and self._evidence.mailbox is not None:
            try:
                # A reaper that runs elsewhere each time has no log of its earlier calls.
                ledger = Ledger(self._evidence.mailbox)
                failures = max(failures, ledger.reaping_failed(lease_id, problem))
            except DrillyardError as error:
                log.warning("%s", error)
        self.outcome = Outcome(
            self._lease, self._known, deleted=False, problem=problem, failures=failures
        )


def note_gone(
    evidence: Evidence, lease: Lease, judgement: Judgement, home: Path | None, *, found: bool
) -> bool:
    """Write to the ledger, and then to this machine's intents, that a lease is gone.

    Args:
        evidence: Has its experiment.
        lease: Which.
        judgement: Why.
        home: The local folder.
        found: True if it was gone already; see ``Ledger.gone``.

    Returns:
        False if the ledger cannot be written now. The intent stays, so that the next reaper
        writes it.
    """
    try:
        if not evidence.reachable:
            raise StoreUnavailable(f"{lease.order.store_url} cannot be read now")
        if evidence.mailbox is not None:
            reason = f"reaped: {judgement.reason}"
            Ledger(evidence.mailbox, home=home).gone(lease.lease_id, reason, found=found)
    except DrillyardError as error:
        log.warning("lease %s is gone, but the ledger was not updated: %s", lease.lease_id, error)
        return False
    forget_intent(lease.lease_id, home)
    return True
