"""All mirrors of one experiment, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drillyard.mailbox import Mailbox
from drillyard.system.clock import SYSTEM
from drillyard.tracking.background import Mirror
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.tracker import Target


class Mirrors:
    """A mirror for each place that an experiment is copied to; each in its own process.

    Args:
        mailbox: The experiment.
        targets: The places, from ``behind.targets``.
        on_warning: As ``Mirror`` takes it.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        targets: Sequence[Target],
        *,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self._mirrors = [
            Mirror(mailbox, one.address, tracker=one.tracker, on_warning=on_warning)
            for one in targets
        ]

    def start(self) -> None:
        """Starts them; returns at once."""
        for one in self._mirrors:
            one.start()

    def ask(self) -> None:
        """Send what is new now; returns at once."""
        for one in self._mirrors:
            one.ask()

    def leave(self) -> None:
        """Lets them send the rest and end by themselves; returns at once."""
        for one in self._mirrors:
            one.leave()

    def finish(self, timeout_s: float) -> list[SyncReport]:
        """Sends the rest everywhere, at the same time.

        Args:
            timeout_s: For all of them together, except for a database on this machine.

        Returns:
            Their reports.
        """
        until = SYSTEM.monotonic() + timeout_s
        for one in self._mirrors:
            one.end()
        return [one.finish(max(0.0, until - SYSTEM.monotonic())) for one in self._mirrors]
