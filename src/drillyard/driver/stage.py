"""Where a session is shown while it goes on: Prefect's pages, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from drillyard.errors import ControlPlaneError

if TYPE_CHECKING:
    from drillyard.driver.bodies import Bodies
    from drillyard.driver.driver import Driver
    from drillyard.driver.outcome import Outcome


class Stage(Protocol):
    """Shows the phases of one session. Nothing that it does, or fails to do, decides anything."""

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        """Begin to show in the background; returns at once."""

    def showing(self) -> bool:
        """Whether a body that is offered now may still be joined."""

    def slots(self, driver: Driver) -> AbstractContextManager[None]:
        """Hold what ``resources.limit`` counts while the block runs, after a wait for it.

        Nothing is held where no limit is set.

        Raises:
            ControlPlaneError: What counts cannot be asked.
            ConfigError: There is no such limit, or it is too small.
            Stopped: Somebody asked for that meanwhile.
        """

    def end(self, outcome: Outcome) -> None:
        """Wait, within a bound, until everything is shown."""


class NoStage:
    """Shows nothing."""

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        """Show nothing."""

    def showing(self) -> bool:
        """Nothing is."""
        return False

    @contextmanager
    def slots(self, driver: Driver) -> Iterator[None]:
        """Refuse a limit: nothing here counts it."""
        limit = driver.spec.resources.limit
        if limit is not None:
            raise ControlPlaneError(
                f"the limit {limit!r} is counted by Prefect, and this run does without it",
                hint="run it through Prefect, or without resources.limit",
            )
        yield

    def end(self, outcome: Outcome) -> None:
        """Nothing is left to show."""
