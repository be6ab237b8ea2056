"""What follows when every ticket has its result: give back the machines, build the report.

It begins in the moment in which the mailbox says so. Prefect's own way there (the last states of
three tasks) takes a fraction of a second, or several when its database is busy for a moment: its
client then tries again two seconds later (HTTP 503, seen now and then). The flow's task
`teardown` and its artifacts find done what was done here, as `provision` does at the other end.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import ClassVar

from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError

log = logging.getLogger(__name__)


class Aftermath:
    """Teardown and report of one driver, each once whoever asks first.

    It keeps no reference to the driver, so that both end together.
    """

    _of: ClassVar[weakref.WeakKeyDictionary[Driver, Aftermath]] = weakref.WeakKeyDictionary()
    _of_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.built: str | None = None
        """Where the report is, once it is."""
        self.allowed = False
        """True once the flow has what it rents: before that, it would rent once more."""

    @classmethod
    def of(cls, driver: Driver) -> Aftermath:
        """The one of a driver."""
        with cls._of_lock:
            found = cls._of.get(driver)
            if found is None:
                found = cls._of[driver] = cls()
            return found

    def begin(self, driver: Driver) -> None:
        """Begin in a thread, once it is allowed; for a driver whose tickets all have a result."""
        if self.allowed and self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(driver,), name="aftermath", daemon=True
            )
            self._thread.start()

    def report(self, driver: Driver) -> str:
        """Where the report is; built here unless it was, or waited for while it is.

        Raises:
            Exception: It cannot be built; tried again by the next call.
        """
        with self._lock:
            if self.built is None:
                from drillyard.report import build

                if driver.number:  # 0: it had nothing to do, and kept no time
                    driver.save_timings()  # the report has a table of them
                self.built = str(build(driver.mailbox).index)
            return self.built

    def join(self, timeout_s: float) -> None:
        """Wait for what was begun."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self, driver: Driver) -> None:
        try:
            driver.teardown()
        except DrillyardError as error:
            # Whoever tears down next says it; a report that tells of machines waits for him.
            log.info("teardown is not confirmed yet: %s", error)
            return
        try:
            self.report(driver)
        except Exception as error:
            log.info("the report is not built yet: %s", error)
