"""The order to stop an experiment, from this driver or from another command."""

from __future__ import annotations

from drillyard.errors import Stopped
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import DriverLock, host
from drillyard.mailbox.fenced import Fenced
from drillyard.mailbox.records import Cancel
from drillyard.system.clock import Clock


class StopOrder:
    """Gives and reads the order to stop.

    Args:
        mailbox: The experiment.
        lock: The driver's lock. A driver that lost it gives no orders to the other one's workers.
        clock: For times.
    """

    def __init__(self, mailbox: Mailbox, lock: DriverLock, clock: Clock) -> None:
        self._mailbox = Fenced(mailbox, lock.must_drive)
        self._clock = clock
        self.given_at: float | None = None
        """When this driver gave the order (monotonic), or None."""
        self.drains = False
        """Whether the order lets running tickets finish, however long they take."""

    def give(self, reason: str, drain: bool = False) -> None:
        """Ask all workers to stop.

        Args:
            reason: For people.
            drain: Let running tickets finish.

        Raises:
            Superseded: Another driver took over. This driver stops, the workers do not.
        """
        if self.given_at is None or (self.drains and not drain):
            self.given_at, self.drains = self._clock.monotonic(), drain
        order = Cancel(
            reason=reason, by=f"driver on {host()}", drain=drain, written_at=self._clock.now()
        )
        self._mailbox.write("control/cancel.json", order)

    @property
    def given(self) -> bool:
        """Whether this driver gave the order; makes no request."""
        return self.given_at is not None

    def seen(self) -> bool:
        """Whether the order was given, by this driver or another; reads the mailbox."""
        return self.given or self._mailbox.cancelled() is not None

    def check(self) -> None:
        """Raise if the order was given.

        Raises:
            Stopped: The order was given.
        """
        if self.seen():
            raise Stopped("stopped before any work began", hint="run the same command again")
