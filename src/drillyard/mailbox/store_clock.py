"""The store's time: what processes on several machines compare is stamped and judged by it."""

from __future__ import annotations

import threading

from drillyard.errors import InfrastructureError
from drillyard.mailbox.store import Store
from drillyard.system.clock import SYSTEM, Clock

_COARSE_S = 2.0
"""Stores tell their time in whole seconds, so smaller differences are ignored."""


class StoreClock:
    """A clock that shows the time of the experiment's store.

    The driver, its workers and the next driver may run on machines whose clocks differ by hours,
    or jump. A lease's limit, its cost and the order of trials must not depend on them. Between
    two questions to the store, and while it does not answer, the monotonic clock counts on.

    Args:
        store: Its time is the one that counts. A store on a local disk has this machine's.
        clock: This machine's: it measures durations and waits. Its time of day is used only
            before the store's first answer.
    """

    def __init__(self, store: Store, clock: Clock = SYSTEM) -> None:
        self._store = store
        self._clock = clock
        self._ahead: float | None = None
        """The store's time minus the monotonic clock."""

    def now(self) -> float:
        """Seconds since the epoch by the store's clock; it never raises."""
        try:
            ahead = self._store.now() - self._clock.monotonic()
        except InfrastructureError:
            if self._ahead is None:
                return self._clock.now()
        else:
            # Also after a closed lid: the monotonic clock of Linux does not count that time.
            if self._ahead is None or abs(ahead - self._ahead) > _COARSE_S:
                self._ahead = ahead
        return self._ahead + self._clock.monotonic()

    def monotonic(self) -> float:
        """Seconds that never go back, of this machine."""
        return self._clock.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait for the event or the time; True if the event is set."""
        return self._clock.wait(event, timeout_s)
