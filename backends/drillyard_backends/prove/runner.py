"""Runs the probes of a cloud: refuses first, writes down first, ends everything, says what it saw.

1. finish what a killed proof left;
2. the probes that only read, and the checks of `drillyard plan`: a fault ends it here;
3. the price is shown and confirmed;
4. the lease is written down and rented; the other probes run;
5. the lease is ended, confirmed by listing, and the folder in the store is deleted.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from drillyard.backend import Lease, Order
from drillyard.errors import DrillyardError, NoCapacity, StoreUnavailable, TeardownUnconfirmed
from drillyard.findings import Finding, Severity
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.prove.cost import ENDING_S, Price, check, price_of
from drillyard_backends.prove.lease import ProofLease, new_lease_id
from drillyard_backends.prove.probes import (
    Observation,
    Probe,
    Prover,
    S,
    Untestable,
    Verdict,
)
from drillyard_backends.prove.show import Show


@dataclass
class Report:
    """What a proof found.

    Attributes:
        price: Upper bounds.
        observations: What was seen.
        findings: Faults of the account that the checks of `plan` found.
        created: Whether the lease was rented.
        finished: Leases of earlier proofs that were ended.
        refusal: Why nothing was rented, or nothing that was rented worked; None: neither.
        ended: Whether the provider's listing confirmed the end of the lease.
        unconfirmed: Why something may be left; None: nothing is.
        software: What a machine has whose worker got ready for the experiment.
    """

    price: Price
    observations: list[Observation] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    created: bool = False
    finished: list[str] = field(default_factory=list)
    refusal: DrillyardError | None = None
    ended: bool = False
    unconfirmed: TeardownUnconfirmed | None = None
    software: dict[str, str] = field(default_factory=dict)

    def of(self, verdict: Verdict) -> list[Observation]:
        """The observations with a verdict."""
        return [each for each in self.observations if each.verdict is verdict]


class Proof(Generic[S]):
    """One proof.

    Args:
        prover: What is known of the cloud.
        max_cost: Most that it may cost, in the currency of the price list.
        show: What it tells.
        clock: For waiting.
        home: The local folder; default ``DRILLYARD_HOME``.

    Raises:
        ConfigError: The proof could cost more.
    """

    def __init__(
        self,
        prover: Prover[S],
        max_cost: float,
        show: Show | None = None,
        clock: Clock = SYSTEM,
        home: Path | None = None,
    ) -> None:
        self._prover, self._show, self._clock, self._home = prover, show or Show(), clock, home
        sample = prover.order("dy-0000000000", "", 0.0)
        price = price_of(prover.backend, sample, prover.probes, prover.pace)
        check(prover, price, max_cost)
        self.report = Report(price)

    def run(self, *, dry_run: bool = False) -> Report:
        """Proves.

        Args:
            dry_run: Only read, and say what would be done.

        Raises:
            UserError: The account or its settings cannot rent; nothing was created.
        """
        self._show.costs(self._prover, self.report.price)
        self._finish(dry_run)
        url = self._prover.backend.store_url()
        order = self._order(url)
        scene = self._scene(order, url)
        for probe in self._prover.probes:
            if probe.reads:
                self._probe(probe, scene)
        self.report.findings = self._prover.backend.check(order)
        self._show.finds(self.report.findings)
        if dry_run:
            return self.report
        if any(finding.severity is Severity.ERROR for finding in self.report.findings):
            self._rest("the account cannot rent yet, and nothing was created")
            return self.report
        self._show.confirm(self.report.price)
        self._prover.backend.prepare_store(url)
        lease = self._lease(url)
        with lease.alone():
            try:
                # Again: the store may not have answered above, and another proof may have died.
                self._end(lease, lease.left())
                self._prove(lease, url)
            except TeardownUnconfirmed as error:
                self.report.unconfirmed = error
            except BaseException:
                with contextlib.suppress(DrillyardError):
                    lease.sweep()
                raise
            lease.sweep()
        return self.report

    def _order(self, url: str) -> Order:
        ends_at = self._clock.now() + self.report.price.life_s
        return self._prover.order(new_lease_id(), url, ends_at)

    def _lease(self, url: str) -> ProofLease:
        return ProofLease(self._prover.backend, url, self._clock, self._home)

    def _scene(self, order: Order, url: str) -> S:
        return self._prover.scene(order, self._lease(url).mailbox, self._clock)

    # -- what an earlier proof left -----------------------------------------------------------

    def _finish(self, dry_run: bool) -> None:
        """Ends what a killed proof left.

        Raises:
            TeardownUnconfirmed: It may still be alive.
        """
        lease = self._lease(self._prover.backend.store_url())
        try:
            left = lease.left()
        except StoreUnavailable:
            # There may be no store yet. What this machine knows of needs none; the rest is
            # looked at again before anything is created.
            left = lease.left(stored=False)
        if not left:
            return
        if dry_run:
            names = ", ".join(each.lease_id for each in left)
            self._show.line(
                f"an earlier proof left {names}: the same command without --dry-run "
                "ends it, and so does `drillyard reap`"
            )
            return
        with lease.alone():
            self._end(lease, left)
            lease.sweep()

    def _end(self, lease: ProofLease, left: list[Lease]) -> None:
        for each in left:
            self._show.line(f"an earlier proof left {each.lease_id}: it is ended first")
            lease.end(each)
            self.report.finished.append(each.lease_id)

    # -- the probes ---------------------------------------------------------------------------

    def _prove(self, lease: ProofLease, url: str) -> None:
        probes = [probe for probe in self._prover.probes if not probe.reads]
        scene = self._scene(self._order(url), url)
        for probe in probes:
            if not probe.paid:
                self._probe(probe, scene)
        if not any(probe.paid for probe in probes):
            return
        order = self._order(url)
        scene = self._scene(order, url)
        scene.ends_at = self._clock.monotonic() + self.report.price.life_s - ENDING_S
        lease.intend(order, self._prover.backend.estimate(order))
        self.report.created = True
        try:
            rented = self._prover.backend.provision(order)
            scene.lease = rented
            lease.rented(rented)
            for probe in probes:
                if probe.paid:
                    self._probe(probe, scene)
            self.report.software = scene.software
            if scene.idle:
                hint = "try again later, or with another zone, machine or region in the settings"
                self.report.refusal = NoCapacity(scene.idle, hint=hint)
        except DrillyardError as error:
            self.report.refusal = error
            self._rest(f"the lease could not be rented: {error}")
        finally:
            lease.end(scene.lease or self._outline(order))
            self.report.ended = True

    def _outline(self, order: Order) -> Lease:
        kind, now = self._prover.backend.kind, self._clock.now()
        return Lease(lease_id=order.lease_id, backend=kind, order=order, created_at=now)

    def _probe(self, probe: Probe[S], scene: S) -> None:
        """Runs one probe; whatever it does not see could not be tested."""
        self._show.begins(probe)
        seen: set[str] = set()
        why = "the probe gave no answer about it"
        try:
            if self._clock.monotonic() >= scene.ends_at:
                raise Untestable("the paid time was over")
            for observation in probe.check(scene):
                seen.add(observation.claim.id)
                self._note(observation)
        except (Untestable, DrillyardError) as error:
            why = str(error)
        except Exception as error:  # an answer that no code expected is a result, too
            why = f"unexpected: {type(error).__name__}: {error}"
        for claim in probe.claims:
            if claim.id not in seen:
                self._note(claim.untested(why))

    def _note(self, observation: Observation) -> None:
        self.report.observations.append(observation)
        self._show.saw(observation)

    def _rest(self, why: str) -> None:
        """Says of every other claim that it was not tested."""
        seen = {each.claim.id for each in self.report.observations}
        claims = {claim.id: claim for probe in self._prover.probes for claim in probe.claims}
        rest = [claim for claim in claims.values() if claim.id not in seen]
        self.report.observations += [claim.untested(why) for claim in rest]
        self._show.untested(rest, why)
