"""The sidecar of the work in a ticket's process: the heartbeat, and the stop requests.

- ``step``, once a second: the board, the log segments, the orders to stop, and whether the attempt
  still belongs to this process;
- a thread that reads the worker's requests and notices its death (the end of the pipe), because a
  step may hang in the store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from drillyard.errors import InfrastructureError, Superseded
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.records import Claim
from drillyard.mailbox.status import Cause, Status
from drillyard.runs.workload import StopSignal
from drillyard.system.clock import Clock
from drillyard.system.loops import Loop
from drillyard.system.operating_system import own_group, signal_group
from drillyard.system.utilisation import Monitor
from drillyard.worker.logship import LogShipper
from drillyard.worker.progress import ProgressKeeper

BEAT_S = 1.0
FINISH_S = 30.0
"""How long to wait for a last step that hangs in the store, in seconds."""
ORPHAN_GRACE_S = 5.0
"""Seconds after the death of the worker in which a ticket may write; then the process exits."""
log = logging.getLogger(__name__)


class TicketSidecar:
    """Writes the heartbeat of a phase, and receives stop requests.

    Args:
        mailbox: The experiment.
        claim: The claim of the work.
        stop: Set when the work should stop.
        progress: Source of the board.
        shipper: Ships the log.
        worker: Pipe from the worker, or None for a process without one.
        clock: Time.
        usage: Samples the use of the machine, None for no samples.
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
        usage: Monitor | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._claim = claim
        self._stop = stop
        self._progress = progress
        self._shipper = shipper
        self._worker = worker
        self._usage = usage
        self._run = claim.ticket.rpartition(".")[0]
        self._every_s = max(BEAT_S, 2 * pace(mailbox.store))
        self._superseded = False
        self._loop = Loop("beat", self.step, clock)

    def start(self) -> None:
        """Start the threads."""
        self._loop.start()
        if self._worker is not None:
            listen(self._worker, [self._stop])

    def finish(self, status: Status) -> None:
        """End the heartbeat and write the last board, unless another worker has the run now."""
        self._loop.stop(timeout_s=FINISH_S)
        self._try(self._look_at_claim)
        if not self._superseded:
            self._try(lambda: self._write_board(status))

    @property
    def superseded(self) -> bool:
        """True once the attempt belongs to another worker."""
        return self._superseded

    # -- beat ---------------------------------------------------------------------------------

    def step(self, now: float) -> float | None:
        """Write the heartbeat, and check whether the work should continue.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None if the attempt belongs to another worker.
        """
        # First: a process that slept (SIGSTOP, a closed laptop) may have been superseded.
        self._try(self._look_at_claim)
        if self._superseded:
            return None
        if self._usage is not None:
            self._usage.step(now, self._progress.step)
        self._try(lambda: self._write_board(Status.RUNNING))
        self._try(self._shipper.ship)
        self._try(self._look_at_cancel)
        return self._every_s

    def _write_board(self, status: Status) -> None:
        board = self._progress.board(status)
        if self._usage is not None and self._usage.latest:
            board = board.model_copy(update={"usage": self._usage.latest})
        self._mailbox.write(f"board/{board.run}.json", board, listed=True)

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
        """The work continues while a store or the disk fails; a later step repeats the writes."""
        try:
            action()
        except InfrastructureError as error:
            log.warning("the mailbox cannot be reached; the work continues: %s", error)
        except OSError as error:  # of this machine's disk, under the log
            log.warning("the log cannot be shipped; the work continues: %s", error)


def listen(worker: Connection, stops: Sequence[StopSignal]) -> None:
    """Pass the worker's requests on, in a thread that ends this process after the worker's death.

    Args:
        worker: Pipe from the worker.
        stops: The work of this process.
    """

    def work() -> None:
        while True:
            try:
                cause, reason = worker.recv()
            except (EOFError, OSError):
                break
            for stop in stops:
                stop.set(Cause(cause), reason)
        for stop in stops:
            stop.set(Cause.INFRASTRUCTURE, "the worker that started this ticket died")
        # Not the clock's wait: this is about real processes, whatever time a test plays.
        threading.Event().wait(ORPHAN_GRACE_S)
        # The group is this process and what it started: nothing may outlive its worker.
        signal_group(own_group())

    threading.Thread(target=work, name="requests", daemon=True).start()
