"""All mirrors of one experiment, as one, and what is sent for experiments without a mirror."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.system.clock import SYSTEM
from drillyard.tracking import behind
from drillyard.tracking.background import Mirror
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.tracker import MLFLOW, Target, title
from drillyard.tracking.uris import digest

log = logging.getLogger(__name__)


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
            Mirror(mailbox, target.address, tracker=target.tracker, on_warning=on_warning)
            for target in targets
        ]

    def start(self) -> None:
        """Starts them; returns at once."""
        for mirror in self._mirrors:
            mirror.start()

    def ask(self) -> None:
        """Send what is new now; returns at once."""
        for mirror in self._mirrors:
            mirror.ask()

    def leave(self) -> None:
        """Lets them send the rest and end by themselves; returns at once."""
        for mirror in self._mirrors:
            mirror.leave()

    def finish(self, timeout_s: float) -> list[SyncReport]:
        """Sends the rest everywhere, at the same time.

        Args:
            timeout_s: For all of them together, except for a database on this machine.

        Returns:
            Their reports.
        """
        until = SYSTEM.monotonic() + timeout_s
        for mirror in self._mirrors:
            mirror.end()
        return [mirror.finish(max(0.0, until - SYSTEM.monotonic())) for mirror in self._mirrors]


def catch_up(timeout_s: float = 120.0) -> list[str]:
    """Send what is missing of every noted experiment.

    Args:
        timeout_s: Seconds for each of them.

    Returns:
        A sentence for each experiment: what was sent, or why not. It raises nothing.
    """
    lines = []
    for record in behind.behind():
        named = f"{record.experiment}: {title(record.tracker)}"
        try:
            mailbox = Mailbox(open_store(record.store_url), record.experiment)
            targets = [t for t in behind.targets(mailbox) if t.tracker == record.tracker]
            if not targets or digest(targets[0].key) != record.server:
                lines.append(_elsewhere(record))
                continue
            report = Mirror(
                mailbox, targets[0].address, tracker=record.tracker, on_warning=log.debug
            ).sync_once(timeout_s)
        except DrillyardError as error:
            lines.append(f"{named} is not up to date: {error}")
            continue
        if report.complete:
            behind.forget(mailbox, record.tracker)
            lines.append(f"{named} at {report.uri} is up to date")
        else:
            lines.append(f"{named} is not up to date: {report.error}")
    return lines


def _elsewhere(record: behind.Behind) -> str:
    named = f"{record.experiment}: its {title(record.tracker)}"
    again = f"run drillyard sync {record.experiment} --store {record.store_url}"
    if record.tracker == MLFLOW:
        return f"{named} has no address here; set MLFLOW_TRACKING_URI and {again}"
    return f"{named} has another address now; {again}"
