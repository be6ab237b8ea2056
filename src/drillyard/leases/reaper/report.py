"""What a reaper saw and did."""

from __future__ import annotations

from dataclasses import dataclass, field

from drillyard.backend import Lease
from drillyard.leases.reaper.judging import Judgement

ALARM_AFTER = 2
"""Failures in a row after which somebody must be told."""


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
