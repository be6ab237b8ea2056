"""Decides from plain facts whether a lease is still of use. It makes no request."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from drillyard.system.durations import duration

GRACE_S = 600.0
"""Seconds for which a useless lease is left alone, so that it or its driver can end it first."""


class Verdict(enum.StrEnum):
    """A reaper's decision about a lease."""

    LIVE = "live"
    PROTECTED = "protected"
    WAITING = "waiting"
    """It is useless, but not for long enough."""
    UNKNOWN = "unknown"
    """Its use is unknown: it is left alone, and a person must check it."""
    EXPIRED = "expired"


@dataclass(frozen=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Facts:
    """The facts about a lease. Ages are in seconds, by the clock of the provider or the store.

    Attributes:
        overdue_s: Seconds since its limit; negative before it; None: it has no limit.
        protected_s: Seconds until its protection ends; 0 or less: it is not protected.
        readable: The mailbox could be read, so that the following facts are known.
        driven: A driver is alive.
        open_tickets: Number of open tickets. Workers may do them without a driver.
        gone: The ledger has it as torn down.
        in_ledger: The ledger contains it.
        quiet_s: Seconds since the last event: its creation, a heartbeat, a ticket's end.
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
        facts: The facts about it.
        grace_s: Seconds for which a useless lease is left alone.
    """
    if facts.protected_s > 0:
        return Judgement(Verdict.PROTECTED, f"for {duration(facts.protected_s)} more")
    if facts.overdue_s is not None and facts.overdue_s > 0:
        return _after(facts.overdue_s, grace_s, "its limit has passed")
    if not facts.readable:
        if facts.overdue_s is None:
            return Judgement(
                Verdict.UNKNOWN, "it has no limit, and its mailbox cannot be read from here"
            )
        return Judgement(
            Verdict.LIVE, f"{duration(-facts.overdue_s)} to its limit; its mailbox cannot be read"
        )
    if facts.gone:
        return _after(facts.quiet_s, grace_s, "it was torn down, and still exists")
    if not facts.in_ledger:
        return _after(facts.quiet_s, grace_s, "its mailbox does not contain it")
    if facts.driven:
        return Judgement(Verdict.LIVE, "a driver is alive")
    if facts.open_tickets:
        return Judgement(Verdict.LIVE, f"{facts.open_tickets} tickets are open")
    return _after(facts.quiet_s, grace_s, "no work is left, and no driver is running")


def _after(since_s: float, grace_s: float, why: str) -> Judgement:
    if since_s < grace_s:
        return Judgement(Verdict.WAITING, f"{why}; {duration(grace_s - since_s)} of grace left")
    return Judgement(Verdict.EXPIRED, f"{why} since {duration(since_s)}")
