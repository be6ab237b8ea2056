"""One stage of a composite while it is driven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drillyard.documents.json_types import Json
from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Outcome
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.stage_records import Serving, StageState
from drillyard.spec.load import Loaded


@dataclass
class Stage:
    """One stage while it is driven."""

    name: str
    loaded: Loaded
    mailbox: Mailbox
    above: tuple[str, ...]
    state: StageState
    driver: Driver | None = None
    ended: list[Outcome] = field(default_factory=list)
    outcome: Outcome | None = None
    released: bool = False
    failed_service: str | None = None
    """A service that ended while this stage used it."""
    address: Serving | None = None

    @property
    def serves(self) -> bool:
        """Whether it is a service."""
        return self.loaded.spec.workload == "service"

    @property
    def run(self) -> str:
        """The newest run of a service."""
        return run_id(1, self.loaded.spec.seeds[-1])

    def set(self, now: float, status: str, message: str) -> None:
        """Sets the state that is shown.

        Args:
            now: Seconds since 1970.
            status: The new state.
            message: Why.
        """
        update: Mapping[str, Json] = {"status": status, "message": message}
        state = self.state.model_copy(update={**update})
        if status == "running":
            state = state.model_copy(update={"began_at": now})
        elif state.ended:
            state = state.model_copy(update={"ended_at": now})
        self.state = state

    def how(self) -> str:
        """How it ended, for a sentence."""
        words = {
            "failed": "did not succeed",
            "skipped": "was not started",
            "stopped": "was stopped",
            "undecided": "is not decided",
        }
        return words.get(self.state.status, "has ended")

    def leases(self) -> bool:
        """Whether a lease of an earlier driver is not confirmed to be gone."""
        return any(entry.open for entry in Ledger(self.mailbox).entries())

    def holds(self, path: str) -> bool:
        """Whether its mailbox has this object."""
        return self.mailbox.store.stat(self.mailbox.key(path)) is not None
