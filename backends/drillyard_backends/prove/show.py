"""What a proof tells while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drillyard.system import closed_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drillyard.findings import Finding
    from drillyard_backends.prove.cost import Price
    from drillyard_backends.prove.probes import Claim, Observation, Probe, Prover, S


class Show:
    """Prints what a proof does, and asks; by default it does neither.

    Args:
        yes: Do not ask.
        quiet: Print nothing.
    """

    def __init__(self, yes: bool = True, *, quiet: bool = True) -> None:
        self._yes, self._quiet = yes, quiet

    def line(self, text: str) -> None:
        """Prints a sentence."""
        from drillyard.system.redaction import redact

        if not self._quiet:
            closed_output.tell(redact(text, assignments=False))

    def begins(self, probe: Probe[S]) -> None:
        """A probe begins."""
        self.line(f"{probe.name} ...")

    def saw(self, observation: Observation) -> None:
        """A probe saw something."""
        claim, verdict = observation.claim, str(observation.verdict)
        self.line(f"  {claim.id:<5} {verdict}: {claim.fact} ({observation.evidence})")
        if verdict == "does not hold":
            self.line(f"        what it means: {claim.otherwise}")

    def untested(self, claims: Sequence[Claim], why: str) -> None:
        """No probe came to these claims."""
        if claims:
            self.line(f"not tested, because {why}: {', '.join(claim.id for claim in claims)}")

    def finds(self, findings: Sequence[Finding]) -> None:
        """The checks of `drillyard plan` found something; errors are printed at the end."""
        from drillyard.findings import Severity

        for each in findings:
            if each.severity is Severity.WARNING:
                self.line(f"warning: {each.subject}: {each.message}")
                if each.fix:
                    self.line(f"  fix: {each.fix}")

    def costs(self, prover: Prover[S], price: Price) -> None:
        """Prints what will be created, and what it costs at most."""
        self.line(f"costs at most, by the price list of {price.prices_of}:")
        for probe in prover.probes:
            bound = price.bounds[probe.name]
            does = f"creates {probe.creates}" if probe.creates else "reads"
            if probe.paid and not probe.creates:
                does = "watches"
            self.line(f"  {bound:7.3f} {price.currency}  {probe.name}: {does}")
        self.line(
            f"  {price.total:7.3f} {price.currency}  in all, with the end and requests; no "
            f"machine lives longer than {price.life_s / 60:.0f} minutes"
        )
        for kept in prover.stays:
            self.line(f"  stays: {kept}")

    def confirm(self, price: Price) -> None:
        """Asks whether that may be created.

        Raises:
            UserError: It may not.
        """
        from drillyard.system.terminal import confirm

        confirm(f"Create it, for at most {price.total:.2f} {price.currency}?", self._yes)
