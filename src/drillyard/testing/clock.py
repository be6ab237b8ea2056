"""A clock that stands still until told otherwise."""

from __future__ import annotations

import threading


class FakeClock:
    """A clock for tests.

    Args:
        start: Epoch seconds at which it stands.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        """Epoch seconds."""
        return self._now

    def monotonic(self) -> float:
        """The same clock: it never goes back unless ``jump`` makes it."""
        return self._now

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Pass the time at once."""
        if not event.is_set():
            self.advance(timeout_s)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += seconds
