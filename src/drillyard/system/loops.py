"""The outermost part of every control loop: the only place that waits between two steps.

The decisions of a loop are in its step function, which never sleeps. So a test, or a simulation
with its own clock, calls the same function as production.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from drillyard.system.clock import SYSTEM, Clock

Step = Callable[[float], float | None]
"""Monotonic time in seconds -> seconds until the next call; None: finished."""


def run_steps(step: Step, clock: Clock = SYSTEM, stop: threading.Event | None = None) -> None:
    """Call a step function until it has finished.

    Args:
        step: What to call.
        clock: For the time and for waiting.
        stop: Ends the loop between two steps when it is set.
    """
    stop = stop or threading.Event()
    while not stop.is_set():
        pause_s = step(clock.monotonic())
        if pause_s is None:
            return
        clock.wait(stop, pause_s)


def beside(name: str, work: Callable[[], object]) -> None:
    """Call something that may take long in a thread of its own, which ends with the process.

    Args:
        name: What it is for, in the name of the thread.
        work: What to call. It must not raise.
    """
    threading.Thread(target=work, name=f"drillyard-{name}", daemon=True).start()


class Loop:
    """A step function in a thread of its own.

    Args:
        name: Name of the thread.
        step: What to call. It must not raise.
        clock: For the time and for waiting.
    """

    def __init__(self, name: str, step: Step, clock: Clock = SYSTEM) -> None:
        self._stop = threading.Event()
        # A daemon, so that a second Ctrl-C can end the process at once.
        self._thread = threading.Thread(
            target=run_steps, args=(step, clock, self._stop), name=name, daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Wait for the running step, and end the loop after it; safe to call again."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
