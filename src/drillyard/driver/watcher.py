"""The two threads of a driver: one reads the mailbox and resolves what is awaited, one tends.

No thread a run: any number of callers wait on futures. Tending asks providers, which may take a
minute, and the driver's heartbeat must not wait for them. What cannot be read decides nothing for
a while; after that, waiting ends with the error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from drillyard.errors import Bug, DrillyardError, InfrastructureError, Superseded, WorkerLost
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.records import Board
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.system.clock import SYSTEM, Clock

POLL_S = (0.15, 0.4)
"""Shortest and longest pause between two looks; a result is seen within the longest."""
BEAT_S = 3.0
TEND_S = 1.5
PATIENCE_S = 180.0
BOARDS_A_LOOK = 50
"""Hundreds of runs write theirs every few seconds: progress is read in turns, tickets first."""
_SHARE = 0.1  # a look that takes long (thousands of tickets) may take this share of the time
log = logging.getLogger(__name__)


class Watcher:
    """Polls the mailbox in one thread, and tends in another.

    Args:
        mailbox: The experiment.
        beat: Called every few seconds: the driver's heartbeat.
        tend: Called every second or so with the states: buries, rents again, launches.
        clock: For waiting and deadlines.
        patience_s: How long the mailbox may be unreadable before waiting ends with the error.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        beat: Callable[[], None],
        tend: Callable[[dict[str, TicketState]], None],
        clock: Clock = SYSTEM,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._mailbox = mailbox
        self._beat = beat
        self._tend = tend
        self._clock = clock
        self._patience_s = patience_s
        self._pace_s = pace(mailbox.store)
        self._cache = StateCache()
        self._states: dict[str, TicketState] = {}
        self._boards: dict[str, tuple[float, Board]] = {}
        self._boards_stamp: str | None = None
        self._futures: dict[str, Future[TicketState]] = {}
        self._error: DrillyardError | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to watch; once."""
        if self._threads:
            return
        self._states = ticket_states(self._mailbox, self._cache)
        for name, target in (("watcher", self._watch), ("tender", self._tends)):
            # Daemons: a second Ctrl-C leaves at once.
            thread = threading.Thread(target=target, name=f"drillyard-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads; who still waits is told."""
        self._stop.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=10.0)
        self.fail(Superseded("this driver was closed"))

    def states(self) -> dict[str, TicketState]:
        """The latest view of every ticket."""
        return dict(self._states)

    def board(self, run: str) -> Board | None:
        """The latest words of a run's worker."""
        found = self._boards.get(run)
        return found[1] if found else None

    def future(self, ticket: str) -> Future[TicketState]:
        """Resolved with the state of a ticket once that is decided."""
        with self._lock:
            future = self._futures.setdefault(ticket, Future())
            if self._error is not None and not future.done():
                future.set_exception(self._error)
        self._resolve()
        return future

    def fail(self, error: DrillyardError) -> None:
        """End all waiting, now and later, with an error; the first one stays."""
        with self._lock:
            self._error = self._error or error
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(self._error)

    def _resolve(self) -> None:
        with self._lock:
            for ticket, future in self._futures.items():
                state = self._states.get(ticket)
                if state is not None and state.status.ended and not future.done():
                    future.set_result(state)

    def _watch(self) -> None:
        pause, next_beat = POLL_S[0], 0.0
        patience = _Patience()
        while not self._stop.is_set():
            began = self._clock.monotonic()
            try:
                if began >= next_beat:
                    self._beat()
                    next_beat = began + BEAT_S
                changed = self._look()
                self._resolve()
                patience.renew()
                pause = POLL_S[0] if changed else min(pause * 1.5, POLL_S[1])
            except Superseded as error:
                self.fail(error)
                return
            except Exception as error:
                # The heartbeat goes on whatever is decided: this driver has machines to end.
                self._judge(error, patience, began)
                pause = min(pause * 2.0, 5.0)
            took = self._clock.monotonic() - began
            self._clock.wait(
                self._stop, max(pause, self._pace_s, took / _SHARE if took > 0.1 else 0.0)
            )

    def _tends(self) -> None:
        pause = max(TEND_S, 2 * self._pace_s)
        patience = _Patience()
        while self._error is None:
            began = self._clock.monotonic()
            try:
                self._tend(self.states())
                patience.renew()
            except Superseded as error:
                self.fail(error)
            except Exception as error:
                self._judge(error, patience, began)
            if self._clock.wait(self._stop, pause):
                return

    def _judge(self, error: Exception, patience: _Patience, now: float) -> None:
        """End all waiting with an error when nothing else will help."""
        decided = patience.decided(error, now, self._patience_s)
        if decided is not None:
            self.fail(decided)
        log.warning("the driver cannot work now: %s", error)

    def _look(self) -> bool:
        """Read the mailbox; True when a ticket moved."""
        states = ticket_states(self._mailbox, self._cache)
        changed = states != self._states
        self._states = states
        self._read_boards()
        return changed

    def _read_boards(self) -> None:
        stamp = self._mailbox.stamp("board/")
        if stamp is not None and stamp == self._boards_stamp:
            return
        prefix = self._mailbox.key("board/")
        fresh: list[tuple[float, str]] = []
        for info in self._mailbox.store.list(prefix):
            run = info.key[len(prefix) :].removesuffix(".json")
            known = self._boards.get(run)
            if known is None or known[0] != info.updated_at:
                fresh.append((info.updated_at, run))
        # Those that waited longest first.
        fresh.sort(key=lambda one: self._boards[one[1]][0] if one[1] in self._boards else 0.0)
        for updated_at, run in fresh[:BOARDS_A_LOOK]:
            board = self._mailbox.board(run)
            if board is not None:
                self._boards[run] = (updated_at, board)
        self._boards_stamp = stamp if len(fresh) <= BOARDS_A_LOOK else None


class _Patience:
    """How long something has failed, and when that decides anything."""

    def __init__(self) -> None:
        self._since: float | None = None

    def renew(self) -> None:
        """It went well."""
        self._since = None

    def decided(self, error: Exception, now: float, within_s: float) -> DrillyardError | None:
        """What waiting ends with, or None where trying again may help."""
        if not isinstance(error, DrillyardError):
            log.error("the watcher broke", exc_info=error)
            return Bug(f"the driver's watcher broke: {error!r}")
        trying_helps = isinstance(error, InfrastructureError) and not isinstance(error, WorkerLost)
        self._since = now if self._since is None else self._since
        return None if trying_helps and now - self._since <= within_s else error
