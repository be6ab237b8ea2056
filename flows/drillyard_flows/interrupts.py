"""Ctrl-C and SIGTERM: once stops gracefully, twice leaves at once and says what is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError, ExitCode
from drillyard.mailbox.command_hints import bare

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Handles signals while the block runs. Only in a process's main thread.

    Args:
        driver: Notification to stop.
        say: Gets sentences for the user.
        leave: Called before leaving at once.
    """

    def __init__(
        self, driver: Driver, say: Callable[[str], None], leave: Callable[[], None]
    ) -> None:
        self._driver = driver
        self._say = say
        self._leave = leave
        self._before: dict[signal.Signals, Any] = {}
        self.since: float | None = None
        """When the first signal came (monotonic), or None."""

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        mailbox = self._driver.mailbox
        # A handler runs between any two instructions of this thread, which may hold the very lock
        # that writing needs: so another thread does the talking.
        if self.since is None:
            self.since = time.monotonic()
            threading.Thread(
                target=self._stop, args=(signal.Signals(number).name,), daemon=True
            ).start()
            return
        os.write(
            2,
            f"\nleft at once. Runs of {mailbox.experiment!r} may still be stopping; their agent "
            "ends itself.\n"
            f"  see them:   {bare('status', mailbox)}\n"
            f"  end them:   {bare('cancel', mailbox)}\n"
            f"  go on:      {bare('resume', mailbox)}\n".encode(),
        )
        self._leave()
        os._exit(int(ExitCode.INTERRUPTED))

    def _stop(self, signal_name: str) -> None:
        self._say("stopping: runs keep their last checkpoint; once more leaves at once")
        try:
            self._driver.stop(f"{signal_name} at the driver")
        except DrillyardError as error:
            self._say(f"could not tell the workers to stop: {error}")
