"""Where a session is shown while it runs: Prefect's pages, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from drillyard.errors import ControlPlaneError

if TYPE_CHECKING:
    from drillyard.driver.bodies import Bodies
    from drillyard.driver.driver import Driver
    from drillyard.driver.outcome import Outcome


class View(Protocol):
    """Shows the phases of one session. Its failures do not change the outcome."""

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        """Start to show the phases in the background; returns at once."""

    def showing(self) -> bool:
        """Whether a body that is offered now may still be joined by the view."""

    def slots(self, driver: Driver) -> AbstractContextManager[None]:
        """Wait for a slot of ``resources.limit``, and hold it while the block runs.

        Without a limit, it neither waits nor holds anything.

        Raises:
            ControlPlaneError: The service that counts the limit cannot be reached.
            ConfigError: The limit does not exist, or it is too small.
            Stopped: The experiment was asked to stop meanwhile.
        """

    def end(self, outcome: Outcome) -> None:
        """Wait for a limited time until everything is shown."""


class NoView:
    """Shows nothing."""

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        """Show nothing."""
        bodies.close()

    def showing(self) -> bool:
        """Always False."""
        return False

    @contextmanager
    def slots(self, driver: Driver) -> Iterator[None]:
        """Refuse a limit, which only Prefect can count."""
        limit = driver.spec.resources.limit
        if limit is not None:
            raise ControlPlaneError(
                f"the limit {limit!r} needs Prefect, and this run does not use Prefect",
                hint="run it through Prefect, or without resources.limit",
            )
        yield

    def end(self, outcome: Outcome) -> None:
        """Returns at once."""
