"""The agent where tickets are pushed: it takes what it is handed, and what follows in that run.

Whoever pushes (a Dask worker, say) holds the other end of a socket and speaks lines of JSON:

    {"ticket": "t0001-s1.train"}                  to the agent: do this one
    {"over": "t0001-s1.train", "status": "..."}   from it: nothing more of that run is done here

A ticket is handed once. When it has succeeded, the agent goes on with the next phases of its run,
so that a run ends also when nobody drives any more. The end of the socket is the death of whoever
pushed: what runs flushes its checkpoint, and others take it over.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drillyard.backend import Order
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.processes import ProcessId, marked
from drillyard.worker.agent import TERM_GRACE_S, Agent

PLACE = "DRILLYARD_PLACE"
"""Environment variable: one agent after the other in the same place carries the same value."""
ELSEWHERE_S = 20.0
"""How long a handed ticket that another worker holds is waited for: longer than a worker that was
told to end takes to say so."""
log = logging.getLogger(__name__)


class PushedAgent(Agent):
    """An agent that is handed its tickets.

    Args:
        order: What was rented.
        scratch: Local folder for code and attempts.
        slots: Tickets at once.
        clock: Time.
        ear: The socket to whoever pushes.
        term_grace_s: How long tickets may take to stop after SIGTERM.
    """

    def __init__(
        self,
        order: Order,
        scratch: Path,
        slots: int | None = None,
        clock: Clock = SYSTEM,
        *,
        ear: socket.socket,
        term_grace_s: float = TERM_GRACE_S,
    ) -> None:
        super().__init__(order, scratch, slots, clock, term_grace_s=term_grace_s)
        self._ear = ear
        self._handed: dict[str, float] = {}
        """Ticket -> when it was handed, by the monotonic clock."""
        self._handed_lock = threading.Lock()
        threading.Thread(target=self._listen, name="ear", daemon=True).start()

    def _orphans(self) -> Iterator[ProcessId]:
        """Only of this very place: other agents of the lease may live on this machine."""
        place = os.environ.get(PLACE)
        return iter(()) if place is None else marked(self.order.lease_id, **{PLACE: place})

    def _listen(self) -> None:
        try:
            for line in self._ear.makefile("r", encoding="utf-8"):
                with self._handed_lock:
                    self._handed.setdefault(str(json.loads(line)["ticket"]), self._now())
                self._wake()
        except (OSError, ValueError) as error:
            log.warning("no more words from whoever pushes tickets: %s", error)
        self._terminate()

    def _now(self) -> float:
        return self._clock.monotonic()

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        with self._handed_lock:
            handed = dict(self._handed)
        runs = {states[t].ticket.run for t in handed if t in states}
        mine = {name: s for name, s in states.items() if s.ticket.run in runs}
        claimed = super()._claim_some(mine)
        for ticket, since in handed.items():
            state = states.get(ticket)
            if state is None or not self._busy(state, mine, since):
                self._say_over(ticket, state.status if state else Status.UNKNOWN)
        return claimed

    def _busy(self, handed: TicketState, states: dict[str, TicketState], since: float) -> bool:
        """True while this agent works on a handed ticket's run, or is about to."""
        run = handed.ticket.run
        if any(slot.job.ticket.run == run for slot in self._pool.running):
            return True
        of_run = [state for state in states.values() if state.ticket.run == run]
        if self._speaker.owed & {s.ticket.ticket for s in of_run}:
            return True
        if any(
            s.claimable is not None and s.ticket.environment in self.order.environments
            for s in of_run
        ):
            return True
        return handed.status is Status.RUNNING and self._now() - since < ELSEWHERE_S

    def _idle(self, states: dict[str, TicketState]) -> bool:
        """What nobody handed to this agent does not keep it."""
        with self._handed_lock:
            runs = {states[t].ticket.run for t in self._handed if t in states}
        return super()._idle({name: s for name, s in states.items() if s.ticket.run in runs})

    def _say_over(self, ticket: str, status: Status) -> None:
        with self._handed_lock:
            self._handed.pop(ticket, None)
        line: dict[str, Any] = {"over": ticket, "status": status.value}
        try:
            self._ear.sendall(json.dumps(line).encode() + b"\n")
        except OSError as error:
            log.warning("nobody hears that %s is over: %s", ticket, error)
