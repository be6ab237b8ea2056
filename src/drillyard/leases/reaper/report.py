"""The results of a reaper."""

from __future__ import annotations

from dataclasses import dataclass, field

from drillyard.backend import Lease
from drillyard.leases.reaper.verdict import Judgement

ALARM_AFTER = 2
"""Failures in a row after which a person must be notified."""


@dataclass(frozen=True)
class Outcome:
    """The result for one lease.

    Attributes:
        lease: The lease as its provider listed it.
        judgement: The verdict and why.
        deleted: True: ended and confirmed; False: the deletion failed; None: not tried.
        problem: Why the deletion failed.
        failures: How often it failed in a row.
    """

    lease: Lease
    judgement: Judgement
    deleted: bool | None = None
    problem: str = ""
    failures: int = 0

    @property
    def undeletable(self) -> bool:
        """True if the deletion failed so often that a person must check."""
        return self.deleted is False and self.failures >= ALARM_AFTER


@dataclass
class Report:
    """The results of a reaper.

    Attributes:
        outcomes: One for each lease.
        problems: Backend -> why it could not be listed.
        settled: Leases that only this machine's intents still named, and that are gone.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)

    @property
    def undeletable(self) -> list[Outcome]:
        """Those that a person must be notified about."""
        return [o for o in self.outcomes if o.undeletable]

    @property
    def good(self) -> bool:
        """True if everything that had expired is gone, and every backend was listed."""
        return not self.problems and all(o.deleted is not False for o in self.outcomes)
