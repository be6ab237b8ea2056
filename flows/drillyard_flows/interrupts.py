"""Ctrl-C and SIGTERM: the first one stops gracefully, the second one exits immediately.

After a signal, a process has seconds: systemd, Docker and Kubernetes kill it after 10 to 90. So it
also exits when the store no longer answers. The next command continues.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Protocol, Self

from drillyard.errors import DrillyardError, ExitCode, InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.command_hints import bare

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
AWAY_S = 20.0
"""Seconds after a signal in which a store must answer once, again and again."""
ASK_S = 2.0
"""Seconds between two questions to the store after a signal."""


_Handler = Callable[[int, FrameType | None], object] | int | None
"""A handler as ``signal.signal`` returns it."""


class Stoppable(Protocol):
    """What drives an experiment."""

    mailbox: Mailbox

    def stop(self, reason: str) -> None:
        """Ask all workers to stop."""


class Interrupts:
    """Handles signals while the block runs, in the main thread of a process only.

    Args:
        driver: What to stop: the driver of an experiment, or of its stages.
        say: Receives messages for the user.
        leave: Called before an immediate exit.
    """

    def __init__(
        self, driver: Stoppable, say: Callable[[str], None], leave: Callable[[], None]
    ) -> None:
        self._driver = driver
        self._say = say
        self._leave = leave
        self._before: dict[signal.Signals, _Handler] = {}
        self._over = threading.Event()
        self._asked = False
        self._answered_at = 0.0
        self.since: float | None = None
        """When the first signal came (monotonic), or None."""

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        # A handler runs between any two instructions of this thread, which may hold the lock that
        # writing needs. So another thread writes.
        if self.since is None:
            self.since = self._answered_at = time.monotonic()
            for work in (lambda: self._stop(signal.Signals(number).name), self._watch):
                threading.Thread(target=work, daemon=True).start()
            return
        self._exit(
            "Exited. Runs may still be stopping; their worker will exit on its own.",
            ExitCode.INTERRUPTED,
        )

    def _stop(self, signal_name: str) -> None:
        """Ask the workers to stop, then see again and again whether the store is there."""
        self._say(
            "Stopping. Each run writes a checkpoint where it is, or keeps its last one. "
            "Press Ctrl-C again to exit now."
        )
        said = False
        while True:
            try:
                if self._asked:
                    self._driver.mailbox.cancelled()
                else:
                    self._driver.stop(f"the driver received {signal_name}")
                self._asked = True
                self._answered_at = time.monotonic()
            except InfrastructureError as error:
                if not self._asked and not said:
                    self._say(f"could not ask the workers to stop: {error}; trying again")
                    said = True
            except DrillyardError as error:
                self._say(f"could not ask the workers to stop: {error}")
                self._over.set()
            if self._over.wait(ASK_S):
                return

    def _watch(self) -> None:
        """Exit when the store has not answered for long: each of its calls may hang."""
        while not self._over.wait(AWAY_S / 20):
            if time.monotonic() - self._answered_at > AWAY_S:
                asked = "were" if self._asked else "were not"
                why = f"Exited: the store does not answer. The workers {asked} asked to stop."
                self._exit(why, ExitCode.INFRASTRUCTURE)

    def _exit(self, why: str, code: ExitCode) -> None:
        mailbox = self._driver.mailbox
        os.write(
            2,
            f"\n{why}\n"
            f"  show them:   {bare('status', mailbox)}\n"
            f"  stop them:   {bare('cancel', mailbox)}\n"
            f"  continue:    {bare('resume', mailbox)}\n".encode(),
        )
        self._leave()
        os._exit(int(code))
