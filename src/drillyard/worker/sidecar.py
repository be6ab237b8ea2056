"""What stands beside the work in a ticket's process: its heartbeat, and the requests to stop.

- ``step``, once a second: the board, the log segments, the orders to stop, and whether the attempt
  is still ours;
- a thread that reads what the worker says, and notices when the worker dies (the end of the pipe),
  because a step may hang in the store while the worker must be heard.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from drillyard.errors import InfrastructureError, Superseded
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.records import Claim
from drillyard.mailbox.status import Cause, Status
from drillyard.runs.phases import StopSignal
from drillyard.system.clock import Clock
from drillyard.system.loops import Loop
from drillyard.worker.logship import LogShipper
from drillyard.worker.progress import ProgressKeeper

BEAT_S = 1.0
FINISH_S = 30.0
"""How long a last step that hangs in the store is waited for."""
ORPHAN_GRACE_S = 5.0
"""How long a ticket may flush after its worker died; then the process ends itself."""
log = logging.getLogger(__name__)


class TicketSidecar:
    """Heartbeat and ears of a phase.

    Args:
        mailbox: The experiment.
        claim: Under which the work is done.
        stop: Set when the work should stop.
        progress: Source of the board.
        shipper: Of the log.
        worker: Pipe from the worker, or None where nobody started this process.
        clock: Time.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        claim: Claim,
        stop: StopSignal,
        progress: ProgressKeeper,
        shipper: LogShipper,
        worker: Connection | None,
        clock: Clock,
    ) -> None:
        self._mailbox = mailbox
        self._claim = claim
        self._stop = stop
        self._progress = progress
        self._shipper = shipper
        self._worker = worker
        self._run = claim.ticket.rpartition(".")[0]
        self._every_s = max(BEAT_S, 2 * pace(mailbox.store))
        self._superseded = False
        self._loop = Loop("beat", self.step, clock)

    def start(self) -> None:
        """Begin, in threads."""
        self._loop.start()
        if self._worker is not None:
            threading.Thread(target=self._listen, name="ear", daemon=True).start()

    def finish(self, status: Status) -> None:
        """End the beat and write the last board, unless somebody else owns the run now."""
        self._loop.stop(timeout_s=FINISH_S)
        self._try(self._look_at_claim)
        if not self._superseded:
            self._try(lambda: self._write_board(status))

    @property
    def superseded(self) -> bool:
        """True once the attempt was seen to be somebody else's."""
        return self._superseded

    # -- beat ---------------------------------------------------------------------------------

    def step(self, now: float) -> float | None:
        """Say that the work goes on, and look whether it should.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None when the attempt is somebody else's.
        """
        # First of all: whoever slept (SIGSTOP, a laptop's lid) may have been superseded meanwhile.
        self._try(self._look_at_claim)
        if self._superseded:
            return None
        self._try(lambda: self._write_board(Status.RUNNING))
        self._try(self._shipper.ship)
        self._try(self._look_at_cancel)
        return self._every_s

    def _write_board(self, status: Status) -> None:
        board = self._progress.board(status)
        self._mailbox.write(f"board/{board.run}.json", board)

    def _look_at_claim(self) -> None:
        try:
            self._mailbox.must_own(self._claim)
        except Superseded as error:
            self._superseded = True
            self._stop.set(Cause.INFRASTRUCTURE, str(error))

    def _look_at_cancel(self) -> None:
        cancel = self._mailbox.cancelled()
        if cancel is not None and not cancel.drain:
            self._stop.set(Cause.CANCELLED, cancel.reason)
        pruned = self._mailbox.reopened().pruned.get(self._run)
        if pruned is not None:
            self._stop.set(Cause.PRUNED, pruned)

    @staticmethod
    def _try(action: Callable[[], object]) -> None:
        """The work goes on while the store is away; what is missed comes with a later beat."""
        try:
            action()
        except InfrastructureError as error:
            log.warning("the mailbox cannot be reached, the work goes on: %s", error)

    # -- ear ----------------------------------------------------------------------------------

    def _listen(self) -> None:
        assert self._worker is not None
        while True:
            try:
                cause, reason = self._worker.recv()
            except (EOFError, OSError):
                break
            self._stop.set(Cause(cause), reason)
        self._stop.set(Cause.INFRASTRUCTURE, "the worker that started this ticket died")
        # Not the clock's wait: this is about real processes, whatever time a test plays.
        threading.Event().wait(ORPHAN_GRACE_S)
        # The group is this process and what it started: nothing may outlive its worker.
        os.killpg(os.getpgrp(), signal.SIGKILL)
