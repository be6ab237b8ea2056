"""Records of a composite that is done in stages, in its own folder and in those of its stages."""

from __future__ import annotations

from pydantic import Field

from drillyard.documents.json_types import Json
from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.records import FileEntry, Record

STATE = "stages.json"


class Input(Record):
    """What one run gets from another stage."""

    value: Json = None
    """Value of the parameter: a number, a text, or a path in the folder of the run."""
    files: dict[str, FileEntry] = Field(default_factory=dict)
    """Path in the folder of the run -> object of this stage's experiment."""


class Inputs(Record):
    """``inputs/<run>.json`` of a stage; written by the driver of the composite."""

    inputs: dict[str, Input] = Field(default_factory=dict)


class Serving(Record):
    """``runs/<run>/service.json``: a service is ready; written by the worker that runs it."""

    attempt: int
    host: str
    port: int
    ready_at: float


class Release(Record):
    """``control/release-<run>.json``: the service has served, and stops; put-if-absent."""

    reason: str
    written_at: float


class StageState(Record):
    """How one stage is doing."""

    name: str
    experiment: str
    workload: str
    backend: str
    after: list[str] = Field(default_factory=list)
    status: str = "waiting"
    """waiting | running | serving | succeeded | failed | stopped | undecided | skipped"""
    message: str = ""
    began_at: float | None = None
    ended_at: float | None = None

    @property
    def ended(self) -> bool:
        """Whether it goes on no more in this command."""
        return self.status not in ("waiting", "running", "serving")


class StagesState(Record):
    """``stages.json`` of a composite; rewritten by its driver."""

    stages: list[StageState] = Field(default_factory=list)


def inputs_key(run: str) -> str:
    """Key of the inputs of a run, relative to the folder of the stage."""
    return f"inputs/{run}.json"


def serving_key(run: str) -> str:
    """Key of the address of a service, relative to the folder of the stage."""
    return f"runs/{run}/service.json"


def release_key(run: str) -> str:
    """Key of the order to stop a service, relative to the folder of the stage."""
    return f"control/release-{run}.json"


def states(mailbox: Mailbox) -> list[StageState]:
    """The stages of a composite, as its driver wrote them last; empty if it has none."""
    found = mailbox.read(STATE, StagesState)
    return [] if found is None else found.stages
