"""Schedules what the emulated cloud does by itself."""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import traceback
from collections.abc import Callable

from drillyard_emulators.http.clock import EmulatedClock

_LONGEST_REAL_S = 0.5


class Scheduler:
    """Runs actions when emulated time comes to them, one after the other, in one thread.

    Args:
        clock: The time they wait for.
        lock: Lock of the emulated cloud; held while an action runs.
    """

    def __init__(self, clock: EmulatedClock, lock: threading.RLock) -> None:
        self._clock, self._turn = clock, lock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="world")
        self._thread.start()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run an action at an emulated time."""
        with self._condition:
            heapq.heappush(self._due, (when, next(self._order), action))
            self._condition.notify()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action so many emulated seconds from now."""
        self.at(self._clock.now() + seconds, action)

    def run_due(self) -> None:
        """Run everything whose time has come; when this returns it has been done."""
        with self._turn:
            while True:
                with self._condition:
                    if not self._due or self._due[0][0] > self._clock.now():
                        return
                    _, _, action = heapq.heappop(self._due)
                try:
                    action()
                except Exception:
                    # A bug of the emulator must be seen, and must not stop the world.
                    traceback.print_exc(file=sys.stderr)

    def close(self) -> None:
        """Stops all future actions."""
        with self._condition:
            self._closed = True
            self._due.clear()
            self._condition.notify()
        self._thread.join(5.0)

    def _work(self) -> None:
        while True:
            with self._condition:
                if self._closed:
                    return
                wait_s = _LONGEST_REAL_S
                if self._due:
                    wait_s = self._clock.real_s(self._due[0][0] - self._clock.now())
                if wait_s > 0:
                    self._condition.wait(min(wait_s, _LONGEST_REAL_S))
            self.run_due()
