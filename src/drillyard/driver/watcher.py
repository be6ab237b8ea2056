"""Polls the mailbox for a driver, and resolves what callers wait for.

It needs no thread for each run: any number of callers wait on futures. A mailbox that cannot be
read decides nothing for a while; after that, waiting ends with the error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from drillyard.errors import (
    Bug,
    DrillyardError,
    InfrastructureError,
    SearchEnded,
    Superseded,
    WorkerLost,
)
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.records import Board
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.system.clock import SYSTEM, Clock

POLL_S = (0.15, 0.4)
"""Shortest and longest pause between two polls, in seconds."""
TEND_S = 1.5
PATIENCE_S = 180.0
BOARDS_A_LOOK = 50
"""Boards per poll: hundreds of runs write one every few seconds, so they are read in turns where
the listing does not return them."""
BOARD_PAUSE_S = 0.03
"""Pause between two listings of a bucket's boards, in seconds a board: a listing of a hundred is
more than 100 KB."""
LONGEST_BOARD_PAUSE_S = 6.0
"""With the worker's own pace of four seconds, what is shown is at most 15 s old."""
BOARDS_AT_ONCE = 8
"""Boards that are read at the same time from a slow store."""
SLOW_S = 0.02
"""A store that takes this long for a board is slow; a disk takes a tenth of a millisecond."""
LONGEST_PAUSE_S = 5.0
"""Longest pause, however long a poll took, in seconds."""
_SHARE = 0.1  # long polls (thousands of tickets) may take this share of the time
log = logging.getLogger(__name__)


class Watcher:
    """Reads the mailbox in steps, and resolves the futures of tickets.

    Args:
        mailbox: The experiment.
        clock: Measures how slow the store is.
        patience_s: How long the mailbox may be unreadable before waiting ends with the error.
    """

    def __init__(
        self, mailbox: Mailbox, clock: Clock = SYSTEM, patience_s: float = PATIENCE_S
    ) -> None:
        self._mailbox = mailbox
        self._clock = clock
        self.patience_s = patience_s
        self._pace_s = pace(mailbox.store)
        self._cache = StateCache()
        self._states: dict[str, TicketState] = {}
        self._boards: dict[str, tuple[float, Board]] = {}
        self._running: set[str] = set()
        """Runs that were at work when boards were read last."""
        self._looked: set[str] = set()
        """Runs whose boards were read then."""
        self._boards_stamp: str | None = None
        self._boards_due = 0.0
        self._futures: dict[str, Future[TicketState]] = {}
        self._error: DrillyardError | None = None
        self._lock = threading.Lock()
        self._looking = Patience(patience_s)
        self._pause_s = POLL_S[0]
        self._board_s = 0.0
        self.changes = 0
        """Grows whenever a ticket changed."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when it has grown."""

    # -- what was seen ------------------------------------------------------------------------

    def states(self) -> dict[str, TicketState]:
        """The latest state of every ticket; empty before the first poll. Do not change it."""
        return self._states

    def board(self, run: str) -> Board | None:
        """The latest progress of a run."""
        known_board = self._boards.get(run)
        return known_board[1] if known_board else None

    @property
    def error(self) -> DrillyardError | None:
        """The error that ended all waiting; None if waiting continues."""
        return self._error

    def future(self, ticket: str) -> Future[TicketState]:
        """A future with the final state of a ticket."""
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

    # -- steps --------------------------------------------------------------------------------

    def step(self, now: float) -> float | None:
        """Poll the mailbox once.

        Returns:
            Seconds until the next poll.
        """
        try:
            changed = self.look()
            self._looking.renew()
            self._pause_s = POLL_S[0] if changed else min(self._pause_s * 1.5, POLL_S[1])
        except Exception as error:
            self.judge(error, self._looking, now)
            self._pause_s = min(self._pause_s * 2.0, LONGEST_PAUSE_S)
        return max(self._pause_s, self._pace_s)

    def look(self) -> bool:
        """Read the mailbox; True if a ticket changed."""
        states = ticket_states(self._mailbox, self._cache)
        changed = states != self._states
        self._states = states
        self.changes += changed
        self._resolve()
        if changed:
            self.on_change()
        self._read_boards()
        return changed

    def judge(self, error: Exception, patience: Patience, now: float) -> None:
        """End all waiting with an error if trying again cannot help, or failed for too long."""
        decided = patience.decided(error, now)
        if decided is not None:
            self.fail(decided)
        log.warning("the driver cannot work now: %s", error)

    def patience(self) -> Patience:
        """A patience for another part of the driver, whose failures also end all waiting."""
        return Patience(self.patience_s)

    # -- inside -------------------------------------------------------------------------------

    def _resolve(self) -> None:
        with self._lock:
            for ticket, future in self._futures.items():
                state = self._states.get(ticket)
                if state is not None and state.status.ended and not future.done():
                    future.set_result(state)

    def _read_boards(self) -> None:
        now = self._clock.monotonic()
        stamp = self._mailbox.stamp("board/")
        running = {s.ticket.run for s in self._states.values() if s.status is Status.RUNNING}
        looked_at = running | self._running  # also the last board of a run that has just ended
        seen = stamp is not None and stamp == self._boards_stamp and looked_at <= self._looked
        if now < self._boards_due or seen:
            return
        self._running, self._looked = running, looked_at
        fresh: list[tuple[float, str]] = []
        number = 0
        few = sorted(looked_at) if len(looked_at) <= BOARDS_A_LOOK else None
        for run, info, listed in self._mailbox.boards(few):
            number += 1
            known = self._boards.get(run)
            if listed is not None:
                self._boards[run] = info.updated_at, listed
            elif known is None or known[0] != info.updated_at:
                fresh.append((info.updated_at, run))
        if self._pace_s:
            self._boards_due = now + min(BOARD_PAUSE_S * number, LONGEST_BOARD_PAUSE_S)
        # Those that waited longest first.
        fresh.sort(key=lambda one: self._boards[one[1]][0] if one[1] in self._boards else 0.0)
        turn = fresh[:BOARDS_A_LOOK]
        boards = self._side_by_side([run for _, run in turn])
        for (updated_at, run), board in zip(turn, boards, strict=True):
            if board is not None:
                self._boards[run] = (updated_at, board)
        self._boards_stamp = stamp if len(fresh) <= BOARDS_A_LOOK else None

    def _side_by_side(self, runs: list[str]) -> list[Board | None]:
        """Read boards; in threads where the store answers slowly."""
        began = self._clock.monotonic()
        if self._board_s < SLOW_S or len(runs) < 2:
            read_boards = [self._mailbox.board(run) for run in runs]
            at_once = 1
        else:
            at_once = min(BOARDS_AT_ONCE, len(runs))
            with ThreadPoolExecutor(at_once) as threads:
                read_boards = list(threads.map(self._mailbox.board, runs))
        if runs:
            self._board_s = (self._clock.monotonic() - began) * at_once / len(runs)
        return read_boards


class Paced:
    """A watcher's step that limits the share of time that polls take.

    Args:
        watcher: The watcher.
        monotonic: The time, read again after the step.
    """

    def __init__(self, watcher: Watcher, monotonic: Callable[[], float]) -> None:
        self._watcher = watcher
        self._monotonic = monotonic

    def step(self, now: float) -> float | None:
        """Poll once; after a slow poll the pause is longer, up to a limit."""
        pause_s = self._watcher.step(now)
        took_s = self._monotonic() - now
        if pause_s is None or took_s <= 0.1:
            return pause_s
        return max(pause_s, min(took_s / _SHARE, LONGEST_PAUSE_S))


class Tender:
    """Tends the lease, in steps.

    Args:
        watcher: Has the states; all waiting ends if tending cannot continue.
        tend: Called with the states: closes lost attempts, rents again, launches.
        pace_s: Pace of the store, in seconds.
    """

    def __init__(
        self, watcher: Watcher, tend: Callable[[dict[str, TicketState]], None], pace_s: float
    ) -> None:
        self._watcher = watcher
        self._tend = tend
        self._pause_s = max(TEND_S, 3 * pace_s)
        self._patience = watcher.patience()

    def step(self, now: float) -> float | None:
        """Tend once; None once all waiting has ended."""
        if self._watcher.error is not None:
            return None
        try:
            self._tend(self._watcher.states())
            self._patience.renew()
        except Superseded as error:
            self._watcher.fail(error)
        except Exception as error:
            self._watcher.judge(error, self._patience, now)
        return self._pause_s


class Patience:
    """How long something has failed, and when that decides anything.

    Args:
        within_s: How long it may fail.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._since: float | None = None

    def renew(self) -> None:
        """Forget the failures so far."""
        self._since = None

    def decided(self, error: Exception, now: float) -> DrillyardError | None:
        """The error to end the waiting with; None if trying again may help."""
        if not isinstance(error, DrillyardError):
            log.error("the driver failed", exc_info=error)
            return Bug(f"the driver failed: {error!r}")
        final = isinstance(error, WorkerLost | SearchEnded)
        trying_helps = isinstance(error, InfrastructureError) and not final
        self._since = now if self._since is None else self._since
        return None if trying_helps and now - self._since <= self._within_s else error
