"""Until when a lease can have cost money that was gone at the first check."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from drillyard.backend import Backend, CanBeIdle, Lease, Liveness, Order
from drillyard.errors import CorruptObject, DrillyardError, NewerVersion
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import WorkerCache
from drillyard.mailbox.ticket_states import ticket_states

LATE_S = 180.0
"""Seconds after its limit, or after its last worker, in which a machine ends.

A provider ends a machine at the limit that drillyard gave it, up to two minutes later."""
SLEPT_S = 900.0
"""Seconds for the end of a lease, after which the computer that asked for it must have slept."""
_LEAVING = "leaving"


@dataclass(frozen=True)
class FirstLook:
    """What a command saw when it began to end a lease.

    Attributes:
        nothing_up: Whether the lease had no machine.
        at: Epoch seconds by the clock that also measures the end.
    """

    nothing_up: bool
    at: float

    @classmethod
    def at_lease(cls, backend: Backend, lease: Lease, now: float) -> FirstLook:
        """Look now."""
        return cls(nothing_is_up(backend, lease), now)

    def ended_alone(self, now: float) -> bool:
        """Whether the lease may have ended long before its end was confirmed, which is now."""
        return self.nothing_up or now - self.at > SLEPT_S


def nothing_is_up(backend: Backend, lease: Lease) -> bool:
    """Whether a lease that is about to be ended has no machine; False if that is unknown.

    For a backend whose listings lag, a machine that is missing counts as PENDING at first.
    """
    try:
        if backend.probe(lease) in (Liveness.GONE, Liveness.PENDING):
            return True
        return isinstance(backend, CanBeIdle) and backend.idle(lease)
    except DrillyardError:
        return False


def up_to_its_limit(order: Order, now: float, last: float = 0.0) -> float:
    """The latest moment at which machines can have ended by themselves.

    Args:
        order: What was rented.
        now: Epoch seconds by the store's clock.
        last: When a worker of it wrote for the last time.
    """
    if order.deadline is None:
        return now
    return min(now, max(order.deadline, last) + LATE_S)


def latest_end(mailbox: Mailbox, order: Order, now: float) -> float:
    """The latest moment at which a lease that is gone now can have ended.

    A silent worker proves nothing: a machine that hangs costs as much as one that works. So only
    the lease's limit counts, and workers that all said that they leave once nothing was left to
    do. While something is left, a machine may start in the place of one that left.

    Args:
        mailbox: The experiment.
        order: What was rented.
        now: Epoch seconds by the store's clock.
    """
    seen: WorkerCache = {}
    # A record that cannot be read stops no end: then the limit alone counts.
    with contextlib.suppress(CorruptObject, NewerVersion):
        for _ in mailbox.each_worker(seen):
            pass
    reports = [
        (info.updated_at, w.state) for info, w in seen.values() if w.lease == order.lease_id
    ]
    last = max((at for at, _ in reports), default=0.0)
    ends = [up_to_its_limit(order, now, last)]
    all_left = len(reports) >= order.all_workers and all(state == _LEAVING for _, state in reports)
    if all_left and _nothing_is_left(mailbox):
        ends.append(last + LATE_S)
    return min(ends)


def _nothing_is_left(mailbox: Mailbox) -> bool:
    """Whether every ticket is decided; False if a record cannot be read."""
    try:
        return all(state.status.ended for state in ticket_states(mailbox).values())
    except DrillyardError:
        return False
