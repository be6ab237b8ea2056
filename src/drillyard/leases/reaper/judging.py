"""Is a lease still of use? A decision over plain facts; it asks nobody and touches nothing."""

from __future__ import annotations

import enum
from dataclasses import dataclass

GRACE_S = 600.0
"""How long after it became useless a lease is left alone: its own end, and its driver's, come
first."""


class Verdict(enum.StrEnum):
    """What a reaper makes of a lease."""

    LIVE = "live"
    PROTECTED = "protected"
    WAITING = "waiting"
    """Of no use, but not for long enough."""
    UNKNOWN = "unknown"
    """Nothing says whether it is of use: it is left alone, and a person must look."""
    EXPIRED = "expired"


@dataclass(frozen=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Facts:
    """What is known of a lease. Ages are seconds by the clock of whoever keeps the time.

    Attributes:
        overdue_s: Seconds since its limit; negative: still to come; None: it has no limit.
        protected_s: Seconds for which it is protected still; 0 or less: it is not.
        readable: The mailbox could be read, so that the following is known.
        driven: A driver lives.
        open_tickets: Not ended; workers may be at them without a driver.
        gone: The ledger says that it was torn down.
        in_ledger: The ledger knows it at all.
        quiet_s: Seconds since anything happened: its creation, a driver's word, a ticket's end.
    """

    overdue_s: float | None
    protected_s: float = 0.0
    readable: bool = False
    driven: bool = False
    open_tickets: int = 0
    gone: bool = False
    in_ledger: bool = True
    quiet_s: float = 0.0


def judge(facts: Facts, grace_s: float = GRACE_S) -> Judgement:
    """Decide about a lease.

    Args:
        facts: What is known of it.
        grace_s: Seconds for which it is left alone once it is of no use.
    """
    if facts.protected_s > 0:
        return Judgement(Verdict.PROTECTED, f"for {_span(facts.protected_s)} more")
    if facts.overdue_s is not None and facts.overdue_s > 0:
        return _after(facts.overdue_s, grace_s, "its limit is over")
    if not facts.readable:
        if facts.overdue_s is None:
            return Judgement(
                Verdict.UNKNOWN, "it has no limit, and its mailbox cannot be read from here"
            )
        return Judgement(
            Verdict.LIVE, f"{_span(-facts.overdue_s)} to its limit; its mailbox cannot be read"
        )
    if facts.gone:
        return _after(facts.quiet_s, grace_s, "it was torn down, and is there still")
    if not facts.in_ledger:
        return _after(facts.quiet_s, grace_s, "its mailbox knows nothing of it")
    if facts.driven:
        return Judgement(Verdict.LIVE, "a driver is alive")
    if facts.open_tickets:
        return Judgement(Verdict.LIVE, f"{facts.open_tickets} tickets are open")
    return _after(facts.quiet_s, grace_s, "nothing is left to do, and nobody drives")


def _after(since_s: float, grace_s: float, why: str) -> Judgement:
    if since_s < grace_s:
        return Judgement(Verdict.WAITING, f"{why}; {_span(grace_s - since_s)} of grace left")
    return Judgement(Verdict.EXPIRED, f"{why} since {_span(since_s)}")


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
