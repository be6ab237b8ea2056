"""How often a ticket is tried again, and which ending was the last one."""

from __future__ import annotations

from collections import Counter

from drillyard.mailbox.records import Ending
from drillyard.mailbox.status import Cause

RETRIES: dict[Cause, int] = {
    Cause.PREEMPTION: 20,
    Cause.INFRASTRUCTURE: 5,
    Cause.OUT_OF_MEMORY: 1,
    Cause.USER_ERROR: 0,
    Cause.TIME_LIMIT: 0,
    Cause.CANCELLED: 0,
    Cause.PRUNED: 0,
}
"""How many further attempts a cause may have, counted over the life of a ticket."""


def used_up(endings: list[Ending], attempts: int | None = None) -> Ending | None:
    """The ending that decided the ticket, or None while another attempt may follow.

    Args:
        endings: Those that count, oldest first.
        attempts: ``TicketRecord.attempts``.
    """
    counts: Counter[Cause] = Counter()
    for ending in endings:
        if ending.cause is None:
            return ending
        if ending.cause is Cause.CANCELLED:
            continue
        counts[ending.cause] += 1
        if counts[ending.cause] > RETRIES[ending.cause] or counts.total() == attempts:
            return ending
    return None
