"""The clock, which tests can replace."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Wall clock, monotonic clock and waiting."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back; for durations and deadlines inside one process."""

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait for the event or the time; True if the event is set."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait for the event or the time; True if the event is set."""
        return event.wait(max(0.0, timeout_s))


SYSTEM: Clock = SystemClock()
