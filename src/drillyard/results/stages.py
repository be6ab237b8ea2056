"""The stages of a composite as data and as a table."""

from __future__ import annotations

from dataclasses import dataclass

from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.stage_records import StageState, states
from drillyard.results import formatting
from drillyard.results.collect import collect
from drillyard.system.tables import Grid, Table

OF_ALL = {
    "failed": "FAILED",
    "undecided": "UNKNOWN",
    "stopped": "CANCELLED",
    "skipped": "CANCELLED",
    "serving": "RUNNING",
    "running": "RUNNING",
    "waiting": "PENDING",
}
"""Status of a stage -> status of the whole, the worst first."""


@dataclass(frozen=True, slots=True)
class StagesResults:
    """How the stages of a composite are doing.

    Attributes:
        name: The composite.
        store: URL of its store.
        stages: In the order of the file.
        verdicts: Stage -> its result in one sentence, where it has one.
    """

    name: str
    store: str
    stages: tuple[StageState, ...]
    verdicts: dict[str, str]

    @property
    def status(self) -> str:
        """The status of the whole."""
        statuses = {stage.status for stage in self.stages}
        return next((word for key, word in OF_ALL.items() if key in statuses), "SUCCEEDED")


def read(mailbox: Mailbox) -> StagesResults:
    """Reads the stages as their driver wrote them last.

    Args:
        mailbox: The composite.
    """
    stages = tuple(states(mailbox))
    verdicts = {}
    for stage in stages:
        try:
            results = collect(Mailbox(mailbox.store, stage.experiment), curves=False)
            verdicts[stage.name] = formatting.verdict(results)
        except DrillyardError:
            continue  # it has not begun
    return StagesResults(mailbox.experiment, mailbox.store.url, stages, verdicts)


def grid(stages: StagesResults) -> Grid:
    """A table with one row for each stage."""
    table = Table(f"{stages.name}: {stages.status}", stages.stages)
    table.text("stage", lambda s: s.name)
    table.text("status", lambda s: s.status)
    table.text("workload", lambda s: s.workload)
    table.text("backend", lambda s: s.backend)
    table.text("after", lambda s: ", ".join(s.after) or None)
    table.number("time", lambda s: formatting.duration(_took_s(s)))
    return table.text("", lambda s: s.message.splitlines()[0] if s.message else "")


def as_dict(stages: StagesResults) -> JsonObject:
    """The stages as JSON."""
    return {
        "schema_version": 1,
        "experiment": stages.name,
        "status": stages.status,
        "store": stages.store,
        "stages": [
            {
                **stage.model_dump(mode="json", exclude={"schema_version"}),
                "wall_s": _took_s(stage),
                "verdict": stages.verdicts.get(stage.name),
            }
            for stage in stages.stages
        ],
    }


def _took_s(stage: StageState) -> float | None:
    if stage.began_at is None or stage.ended_at is None:
        return None
    return stage.ended_at - stage.began_at
