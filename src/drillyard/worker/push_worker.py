"""The worker that receives its tickets: it does each ticket, and the next phases of its run.

The pusher (for example a Dask worker) holds the other end of a socket, and both write lines of
JSON:

    {"ticket": "t0001-s1.train"}                  to the worker: do this ticket
    {"over": "t0001-s1.train", "status": "..."}   from the worker: it does no more of that run

A ticket is pushed once. When it has succeeded, the worker continues with the next phases of its
run, so that a run also ends without a driver. If the socket closes, the pusher has died: running
tickets write a checkpoint, and other workers take them over.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from drillyard.backend import Order
from drillyard.mailbox import Store
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.processes import ProcessId, marked
from drillyard.worker.machine import Machine
from drillyard.worker.worker import TERM_GRACE_S, Worker

PLACE = "DRILLYARD_PLACE"
"""Environment variable with the same value for all workers of one place, one after the other."""
ELSEWHERE_S = 45.0
"""How long to wait for a pushed ticket that another worker holds, in seconds: longer than it takes
until the attempt of a lost worker is closed. Another machine starts in minutes."""
log = logging.getLogger(__name__)


class Pusher(Protocol):
    """What pushes tickets to a worker."""

    def listen(self, hand: Callable[[str], None], gone: Callable[[], None]) -> None:
        """Start to call ``hand`` with each ticket, and ``gone`` once the pusher has ended."""

    def over(self, ticket: str, status: Status) -> None:
        """Receive that this worker does no more of a ticket's run."""


class SocketPusher:
    """The pusher at the other end of a socket.

    Args:
        end: The worker's end.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def listen(self, hand: Callable[[str], None], gone: Callable[[], None]) -> None:
        """Read lines in a thread until the socket ends."""

        def read() -> None:
            try:
                for line in self._end.makefile("r", encoding="utf-8"):
                    hand(str(json.loads(line)["ticket"]))
            except (OSError, ValueError) as error:
                log.warning("no more tickets are received: %s", error)
            gone()

        threading.Thread(target=read, name="tickets", daemon=True).start()

    def over(self, ticket: str, status: Status) -> None:
        """Write a line."""
        line = {"over": ticket, "status": status.value}
        try:
            self._end.sendall(json.dumps(line).encode() + b"\n")
        except OSError as error:
            log.warning("the end of %s was not sent: %s", ticket, error)


class PushWorker(Worker):
    """A worker that receives its tickets.

    Args:
        order: What was rented.
        scratch: Local folder for code and attempts.
        slots: Tickets at once.
        clock: Time.
        pusher: Where tickets come from.
        machine: Where tickets run; default this machine.
        store: Store of the mailbox; default the store of the order.
        term_grace_s: How long tickets may take to stop after SIGTERM.
    """

    def __init__(
        self,
        order: Order,
        scratch: Path,
        slots: int | None = None,
        clock: Clock = SYSTEM,
        *,
        pusher: Pusher,
        machine: Machine | None = None,
        store: Store | None = None,
        term_grace_s: float = TERM_GRACE_S,
    ) -> None:
        super().__init__(
            order.model_copy(update={"hosts": 0}),  # whoever hosts copies is pushed no ticket
            scratch,
            slots,
            clock,
            machine=machine,
            store=store,
            term_grace_s=term_grace_s,
        )
        self._pusher = pusher
        self._handed: dict[str, float] = {}
        """Ticket -> when it was received, by the monotonic clock."""
        self._handed_lock = threading.Lock()
        pusher.listen(self._hand, self.terminate)

    def _orphans(self) -> Iterator[ProcessId]:
        """Only of this place: other workers of the lease may run on this machine."""
        place = os.environ.get(PLACE)
        return iter(()) if place is None else marked(self.order.lease_id, **{PLACE: place})

    def _hand(self, ticket: str) -> None:
        with self._handed_lock:
            self._handed.setdefault(ticket, self.clock.monotonic())
        self.machine.wake()

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        with self._handed_lock:
            handed = dict(self._handed)
        runs = {states[t].ticket.run for t in handed if t in states}
        own_states = {name: s for name, s in states.items() if s.ticket.run in runs}
        claimed = super()._claim_some(own_states)
        for ticket, since in handed.items():
            state = states.get(ticket)
            if state is None or not self._busy(state.ticket.run, own_states, since):
                with self._handed_lock:
                    self._handed.pop(ticket, None)
                self._pusher.over(ticket, state.status if state else Status.UNKNOWN)
        return claimed

    def _busy(self, run: str, states: dict[str, TicketState], since: float) -> bool:
        """True while this worker works on the run of a received ticket, or is about to."""
        if run in self._running.runs:
            return True
        of_run = [state for state in states.values() if state.ticket.run == run]
        if self._outbox.unwritten & {s.ticket.ticket for s in of_run}:
            return True
        if any(self._takes(state) for state in of_run):
            return True
        waited_s = self.clock.monotonic() - since
        return waited_s < ELSEWHERE_S and any(s.status is Status.RUNNING for s in of_run)

    def _idle(self, states: dict[str, TicketState]) -> bool:
        """Only received tickets keep this worker running."""
        with self._handed_lock:
            runs = {states[t].ticket.run for t in self._handed if t in states}
        return super()._idle({name: s for name, s in states.items() if s.ticket.run in runs})
