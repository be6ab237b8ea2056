"""What a worker does for an experiment without a driver, so that the experiment still ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.driver_lock import STALE_S, driven, known_alive
from drillyard.mailbox.records import Cancel
from drillyard.mailbox.silence import Silence
from drillyard.mailbox.ticket_states import TicketState
from drillyard.runs.webhook import tell
from drillyard.system.clock import Clock

DRIVER_POLL_S = 2.0
CloseLost = Callable[[Mapping[str, TicketState]], None]
"""Closes attempts of lost machines; called with the states of all tickets."""
log = logging.getLogger(__name__)


class DriverWatch:
    """Checks whether there is a driver, and does its part if there is none.

    Args:
        mailbox: The experiment.
        worker: Id of the worker, for the records.
        clock: For the stamps.
        close_lost: Called from time to time without a driver.

    Attributes:
        driven: Whether there was a driver at the last check.
    """

    def __init__(
        self, mailbox: Mailbox, worker: str, clock: Clock, close_lost: CloseLost | None
    ) -> None:
        self.driven = True
        self._mailbox = mailbox
        self._worker = worker
        self._clock = clock
        self._close_lost = close_lost
        self._every_s = max(DRIVER_POLL_S, 3 * pace(mailbox.store))
        self._next_look = 0.0
        self._told = False
        self._silence = Silence()

    def look(self, now: float, states: Mapping[str, TicketState]) -> None:
        """Check when it is time; without a driver, do its part.

        Args:
            now: Monotonic seconds.
            states: States of all tickets.

        Raises:
            InfrastructureError: The store is unreachable; the next call continues.
        """
        ended = all(state.status.ended for state in states.values())
        if now >= self._next_look:
            self._next_look = now + self._every_s
            self.driven = driven(self._mailbox)
            if not self.driven:
                self._without_driver(now, states, ended)
        over = bool(states) and ended and not self.driven
        if over and not self._told:
            tell(self._mailbox, states, f"worker {self._worker}", self._clock)
        self._told = over

    def _is_gone(self, now: float) -> bool:
        """Whether the driver is known to have ended, or stays silent while this worker looks.

        Its stamp alone may be old because a clock jumped, the machine of both slept, or the store
        was away.
        """
        record = self._mailbox.driver()
        if record is None or known_alive(record) is False:
            return True
        info = self._mailbox.store.stat(self._mailbox.key(f"driver/{record.number}.json"))
        stamp = info.updated_at if info is not None else 0.0
        # A longer pause between two looks shows only that this worker could not look.
        same_s = self._silence.seconds(record.number, stamp, now, 2 * self._every_s)
        return same_s >= STALE_S

    def _without_driver(self, now: float, states: Mapping[str, TicketState], ended: bool) -> None:
        if self._close_lost is not None:
            self._close_lost(states)
        if ended:
            return
        spec = self._mailbox.experiment_record().spec
        stops = spec.get("on_driver_loss") == "stop" and self._mailbox.driver_numbers()
        if stops and self._is_gone(now):
            order = Cancel(
                reason="no driver is running for this experiment (on_driver_loss: stop)",
                by=self._worker,
                written_at=self._clock.now(),
            )
            if self._mailbox.create("control/cancel.json", order):
                log.warning("%s", order.reason)
