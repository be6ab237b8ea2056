"""The emulated cloud's time: real, faster than real, or stopped and advanced by hand."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone


class EmulatedClock:
    """Time by which machines boot, operations end, listings lag and limits hold.

    Args:
        speed: Emulated seconds a real second; 0 stands still and moves by ``advance`` only.
        start: Epoch seconds at which it starts; None for now.
    """

    def __init__(self, speed: float = 1.0, start: float | None = None) -> None:
        self.speed = speed
        self._base = time.time() if start is None else start
        self._real = time.monotonic()
        self.changed = threading.Condition()
        """Notified when time jumped."""

    def now(self) -> float:
        """Epoch seconds."""
        return self._base + (time.monotonic() - self._real) * self.speed

    def advance(self, seconds: float) -> float:
        """Let time pass at once; the new time."""
        with self.changed:
            self._base += seconds
            self.changed.notify_all()
        return self.now()

    def real_s(self, seconds: float) -> float:
        """Real seconds that so much emulated time takes; a short poll where time stands still."""
        return max(0.0, seconds / self.speed) if self.speed > 0 else 0.05


def rfc3339(when: float) -> str:
    """As Google writes a time: UTC with milliseconds."""
    return (
        datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


_OFFSET = timezone(timedelta(hours=-7))


def compute_stamp(when: float) -> str:
    """As Compute Engine writes a time: with an offset, ``2017-08-16T13:05:08.617-07:00``."""
    return datetime.fromtimestamp(when, _OFFSET).isoformat(timespec="milliseconds")
