"""Work in a thread, and the wait for its end, which no interrupt cuts short.

Every caller of ``drive`` and of ``Stages.run`` waits here. The first interrupt (a signal, or an
exception in the caller's thread) gives the order to stop, and the wait continues until the
machines are gone. The second one leaves at once and names what is still rented.

The wait uses neither ``Thread.join``, which returns at once after an interrupted one (Python 3.9
to 3.12), nor an event, whose lock an exception in ``Event.wait`` can leave locked.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from drillyard.errors import DrillyardError, ExitCode, InfrastructureError
from drillyard.mailbox.command_hints import bare

if TYPE_CHECKING:
    from drillyard.driver.outcome import Outcome
    from drillyard.mailbox import Mailbox

POLL_S = 0.25
"""Seconds after which a thread notices an exception that another thread sent to it."""
AWAY_S = 20.0
"""Seconds after a signal in which a store must answer once, again and again: systemd, Docker and
Kubernetes kill a process 10 to 90 s after a signal."""
ASK_S = 2.0
"""Seconds between two requests to the store after an interrupt."""
READ_S = 5.0
"""Seconds for the ledger to answer before an immediate exit."""
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class Stoppable(Protocol):
    """The driver of an experiment, or of its stages."""

    mailbox: Mailbox

    def stop(self, reason: str) -> None:
        """Ask all workers to stop."""


Ended = Callable[[float], bool]
"""Waits for the end, for some seconds at most; returns whether it has come."""
Beside = Callable[[Ended], None]


def nothing(ended: Ended) -> None:
    """Does nothing beside the work."""


class InThread:
    """Runs work in a thread, and stops it if this thread is interrupted.

    Signals are handled in the main thread only. A command handles each of them itself; a call
    inside a program leaves those alone for which the program has a handler.

    Args:
        work: What the thread does: ``drive``, or ``Stages.run``.
        driver: What the first interrupt stops.
        say: Gets sentences for the user.
        leave: Called before this process exits at the second signal; None: the process belongs to
            a program, and the second signal raises ``KeyboardInterrupt``.
        hurry: Set at the first interrupt.
    """

    def __init__(
        self,
        work: Callable[[], Outcome],
        driver: Stoppable,
        *,
        say: Callable[[str], None],
        leave: Callable[[], None] | None = None,
        hurry: threading.Event | None = None,
    ) -> None:
        self._work = work
        self._driver = driver
        self._say = say
        self._leave = leave
        self._hurry = hurry or threading.Event()
        self._result: Outcome | BaseException | None = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended = threading.Event()
        """For the threads of this class."""
        self._signal: signal.Signals | None = None
        self._interrupted = False
        self._asked = False
        self._left = False
        self._answered_at = 0.0

    def run(self, beside: Beside = nothing) -> Outcome:
        """Start the work, and wait for its end.

        Args:
            beside: What this thread does meanwhile; it may return before the end.

        Returns:
            How the work ended.

        Raises:
            KeyboardInterrupt: After SIGINT inside a program; for a second one at once.
            SystemExit: After SIGTERM inside a program, with the exit code 143.
            BaseException: The work raised it; or ``beside``, or another thread in this one, and
                the work was stopped.
        """
        with self._signals(), self.running():
            beside(self._wait)
        if self._signal is signal.SIGINT and self._leave is None:
            raise KeyboardInterrupt
        if self._signal is not None and self._leave is None:
            raise SystemExit(128 + self._signal)
        return self.outcome()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the work, and wait for its end after the block; signals stay as they are.

        Raises:
            BaseException: The block, or another thread in this one, raised it, and the work was
                stopped.
        """
        context = contextvars.copy_context()  # Prefect's settings are there
        thread = threading.Thread(
            target=context.run, args=(self._drive,), name="drillyard-session", daemon=True
        )
        try:
            thread.start()
            yield
            while not self._wait(POLL_S):
                pass
        except BaseException as error:
            if self._left:
                raise
            self._interrupt(f"the program that drives it ended: {type(error).__name__}")
            self._wait_on()
            raise

    def outcome(self) -> Outcome:
        """How the work ended.

        Raises:
            BaseException: The work raised it.
        """
        assert self._result is not None
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def _drive(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._result = error
        self._wake.put(None)
        self._ended.set()

    def _wait(self, timeout_s: float) -> bool:
        if self._result is None:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=timeout_s)
        return self._result is not None

    def _wait_on(self) -> None:
        """Wait after an exception, which a person may cut short, and nothing else."""
        while self._result is None:
            try:
                self._wait(POLL_S)
            except KeyboardInterrupt:
                if not self._left:
                    self._tell("Left.")
                raise
            except BaseException as error:
                self._say(f"still stopping ({type(error).__name__})")

    # -- interrupts ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle the signals that nothing else in this process handles."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if self._leave is not None or signal.getsignal(number) in DEFAULTS:
                    before[number] = signal.signal(number, self._received)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if not self._interrupted:
            self._signal = signal.Signals(number)
            self._interrupt(f"the driver received {self._signal.name}")
        elif self._leave is not None:
            self._exit("Exited.", ExitCode.INTERRUPTED)
        else:
            self._left = True
            self._tell("Left.")
            raise KeyboardInterrupt

    def _interrupt(self, reason: str) -> None:
        """Have the workers asked to stop, once.

        By another thread: a signal handler runs between any two instructions of this one, which
        may hold the lock that writing needs.
        """
        if self._interrupted or self._result is not None:
            return
        self._interrupted = True
        self._answered_at = time.monotonic()
        self._hurry.set()
        threading.Thread(target=self._stop, args=(reason,), daemon=True).start()
        if self._leave is not None:
            threading.Thread(target=self._watch, daemon=True).start()

    def _stop(self, reason: str) -> None:
        """Ask the workers to stop, then see again and again whether the store is there."""
        self._say(
            "Stopping. Each run writes a checkpoint where it is, if its simulator can be saved or "
            "replayed, and otherwise continues from its last one. Press Ctrl-C again to exit now."
        )
        said = False
        while True:
            try:
                if self._asked:
                    self._driver.mailbox.cancelled()
                else:
                    self._driver.stop(reason)
                self._asked = True
                self._answered_at = time.monotonic()
            except InfrastructureError as error:
                if not self._asked and not said:
                    self._say(f"could not ask the workers to stop: {error}; trying again")
                    said = True
            except DrillyardError as error:
                return self._say(f"could not ask the workers to stop: {error}")
            if self._ended.wait(ASK_S):
                return None

    def _watch(self) -> None:
        """Exit when the store has not answered for long: each of its calls may hang."""
        while not self._ended.wait(AWAY_S / 20):
            if time.monotonic() - self._answered_at > AWAY_S:
                asked = "were" if self._asked else "were not"
                why = f"Exited: the store does not answer. The workers {asked} asked to stop."
                self._exit(why, ExitCode.INFRASTRUCTURE)

    # -- leaving at once ----------------------------------------------------------------------

    def _exit(self, why: str, code: ExitCode) -> None:
        self._tell(why)
        if self._leave is not None:
            self._leave()
        os._exit(int(code))

    def _tell(self, why: str) -> None:
        """Write what is still rented, past everything that may hold a lock."""
        rented: Future[str] = Future()

        def look() -> None:
            try:
                rented.set_result(_rented(self._driver.mailbox))
            except Exception as error:
                rented.set_result(f"unknown: the ledger cannot be read ({error})")

        threading.Thread(target=look, daemon=True).start()
        try:
            text = rented.result(READ_S)
        except TimeoutError:
            text = "unknown: the store does not answer"
        mailbox = self._driver.mailbox
        with contextlib.suppress(OSError):
            os.write(
                2,
                f"\n{why} Runs may still be stopping; their worker will exit on its own.\n"
                f"  still rented: {text}\n"
                f"  show them:    {bare('status', mailbox)}\n"
                f"  stop them:    {bare('cancel', mailbox)}\n"
                f"  continue:     {bare('resume', mailbox)}\n".encode(),
            )


def _rented(mailbox: Mailbox) -> str:
    """The leases of an experiment and its stages that are not known to be gone."""
    from drillyard.leases.ledger import Ledger
    from drillyard.runs.stages import stage_mailboxes

    boxes = [mailbox, *stage_mailboxes(mailbox).values()]
    leases = [e.lease for box in boxes for e in Ledger(box).entries() if e.open]
    return ", ".join(f"{lease.lease_id} on {lease.backend}" for lease in leases) or "nothing"
