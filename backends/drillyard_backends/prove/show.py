"""What a proof tells while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drillyard.findings import Finding
    from drillyard_backends.prove.cost import Price
    from drillyard_backends.prove.probes import Claim, Observation, Probe, Prover, S


class Show:
    """Tells nothing, and takes every price for confirmed; the command line prints and asks."""

    def line(self, text: str) -> None:
        """A sentence."""

    def begins(self, probe: Probe[S]) -> None:
        """A probe begins."""

    def saw(self, observation: Observation) -> None:
        """A probe saw something."""

    def untested(self, claims: Sequence[Claim], why: str) -> None:
        """Claims that no probe came to."""

    def finds(self, findings: Sequence[Finding]) -> None:
        """What the checks of `drillyard plan` found."""

    def costs(self, prover: Prover[S], price: Price) -> None:
        """What will be created, and what it costs at most."""

    def confirm(self, price: Price) -> None:
        """Asks whether that may be created.

        Raises:
            UserError: It may not.
        """
