"""Ctrl-C and SIGTERM: the first one stops gracefully, the second one exits immediately."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError, ExitCode
from drillyard.mailbox.command_hints import bare

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


_Handler = Callable[[int, FrameType | None], object] | int | None
"""A handler as ``signal.signal`` returns it."""


class Interrupts:
    """Handles signals while the block runs, in the main thread of a process only.

    Args:
        driver: The driver to stop.
        say: Receives messages for the user.
        leave: Called before an immediate exit.
    """

    def __init__(
        self, driver: Driver, say: Callable[[str], None], leave: Callable[[], None]
    ) -> None:
        self._driver = driver
        self._say = say
        self._leave = leave
        self._before: dict[signal.Signals, _Handler] = {}
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
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        mailbox = self._driver.mailbox
        # A handler runs between any two instructions of this thread, which may hold the lock that
        # writing needs. So another thread writes.
        if self.since is None:
            self.since = time.monotonic()
            threading.Thread(
                target=self._stop, args=(signal.Signals(number).name,), daemon=True
            ).start()
            return
        os.write(
            2,
            f"\nExited. Runs of {mailbox.experiment!r} may still be stopping; their worker will "
            "exit on its own.\n"
            f"  show them:   {bare('status', mailbox)}\n"
            f"  stop them:   {bare('cancel', mailbox)}\n"
            f"  continue:    {bare('resume', mailbox)}\n".encode(),
        )
        self._leave()
        os._exit(int(ExitCode.INTERRUPTED))

    def _stop(self, signal_name: str) -> None:
        self._say(
            "Stopping. Each run writes a checkpoint where it is, or keeps its last one. "
            "Press Ctrl-C again to exit now."
        )
        try:
            self._driver.stop(f"the driver received {signal_name}")
        except DrillyardError as error:
            self._say(f"could not ask the workers to stop: {error}")
