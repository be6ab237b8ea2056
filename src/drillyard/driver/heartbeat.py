"""The driver's heartbeat, in a thread of its own, so that nothing slow delays it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from drillyard.errors import DrillyardError, Superseded
from drillyard.mailbox.driver_lock import DriverLock

BEAT_S = 3.0
log = logging.getLogger(__name__)


class Heartbeat:
    """Writes the driver's heartbeat, in steps.

    Args:
        lock: The driver's lock, which has the record.
        on_superseded: Called once when another driver took over.
        pace_s: Pace of the store, in seconds: each request to a bucket costs money.
    """

    def __init__(
        self,
        lock: DriverLock,
        on_superseded: Callable[[Superseded], None],
        pace_s: float = 0.0,
    ) -> None:
        self._lock = lock
        self._every_s = max(BEAT_S, 2 * pace_s)
        self._on_superseded = on_superseded
        self._said = ""

    def step(self, now: float) -> float | None:
        """Write one heartbeat; None once another driver took over."""
        try:
            self._lock.beat()
        except Superseded as error:
            self._on_superseded(error)
            return None
        except DrillyardError as error:
            # With a full or read-only disk reading goes on: this is the only sign.
            if str(error) != self._said:
                self._said = str(error)
                hint = f" ({error.hint})" if error.hint else ""
                log.warning("the mailbox cannot be written, so the work waits: %s%s", error, hint)
        else:
            if self._said:
                log.warning("the mailbox can be written again")
            self._said = ""
        return self._every_s
