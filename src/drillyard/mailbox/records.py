"""What is written into the mailbox. Every record is frozen, JSON and carries its schema version.

Readers ignore unknown fields, so that an older driver can read the records of a newer worker.
Times are seconds since the epoch, UTC; sizes are bytes; durations end in ``_s``.
"""

from __future__ import annotations

import enum
import json
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drillyard.documents.json_types import JsonObject
from drillyard.errors import CorruptObject, NewerVersion
from drillyard.mailbox.status import Cause, Status

STREAMS = 4
"""Version of the random numbers of new experiments, see ``drillyard.simulators.streams``."""


class Phase(enum.StrEnum):
    """The phases of a run that are tickets. Provision, setup and teardown belong to a lease."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    STORE = "store"


PHASES: tuple[Phase, ...] = (Phase.TRAIN, Phase.EVALUATE, Phase.STORE)


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    schema_version: int = 1

    def to_bytes(self) -> bytes:
        """The record as indented UTF-8 JSON."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a record.

        Raises:
            CorruptObject: Not such a record.
            NewerVersion: Its schema version is higher than the one that is known here.
        """
        try:
            record = cls.model_validate_json(data)
            cls._must_know(record.schema_version)
            return record
        except ValidationError as error:
            cls._must_know(_schema_version(data))
            first = error.errors(include_url=False, include_input=False)[0]
            where = "".join(f"{part}: " for part in first["loc"])
            problem = "is cut or not JSON" if first["type"] == "json_invalid" else first["msg"]
            raise CorruptObject(
                f"a record of the kind {cls.__name__} is damaged: {where}{problem}",
                hint="restore the file from a copy of the store, or begin under another name",
            ) from error

    @classmethod
    def _must_know(cls, version: int) -> None:
        known = cls.model_fields["schema_version"].default
        if version > known:
            raise NewerVersion(
                f"a newer drillyard wrote this record of the kind {cls.__name__}: its schema "
                f"version is {version}, this drillyard knows {known}",
                hint="update drillyard here, or use the machine that wrote it",
            )


def _schema_version(data: bytes) -> int:
    """The version in an invalid record; 0 without one."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return 0
    version = document.get("schema_version") if isinstance(document, dict) else None
    return version if isinstance(version, int) else 0


class ExperimentRecord(Record):
    """``experiment.json``: what is run, and where every value came from."""

    name: str
    spec: JsonObject
    """The resolved experiment, as ``ExperimentSpec.model_dump(mode="json")``."""
    provenance: dict[str, str] = {}
    """Dotted path of a value -> where it came from, as text."""
    identity: str
    """sha256 over what changes results (``drillyard.runs.identity``)."""
    identity_parts: JsonObject = {}
    """What went into the identity, for the diff."""
    code: str | None = None
    """sha256 of the code bundle."""
    versions: dict[str, str] = {}
    git_commit: str | None = None
    git_dirty: bool | None = None
    command: list[str] = []
    file: str = ""
    """Path of the experiment file on the machine that submitted it."""
    text: str = ""
    """The experiment file as it was read, so that ``resume`` needs nothing else."""
    streams: int = 1
    """Version of the random numbers; kept as it is, also for seeds that are added later."""
    history: list[JsonObject] = []
    """Earlier changes under this name: ``{"at", "changes": ["train.steps: 1 -> 2", …]}``."""
    created_at: float


class Lineage(Record):
    """The place of a trial in a population, and the trial whose training it continues."""

    member: int
    """Its place in its generation, from 1."""
    generation: int
    """From 1."""
    parent: int | None = None
    """The trial whose last checkpoint it starts from, seed by seed; None: it starts anew."""
    ends_at: int | None = None
    """Environment step at which the generation ends; None if the work has no steps."""


class RunRecord(Record):
    """``runs/<run>/run.json``: one seed of one trial; frozen at the first post."""

    run: str
    experiment: str
    trial: int = 1
    seed: int
    name: str | None = None
    """Name for people (``run_name``); None: its id."""
    parameters: JsonObject = {}
    """Constants and tunables as this trial has them."""
    threads: int = 1
    device: str = "cpu"
    choices: JsonObject = {}
    """Choices of a rule or a measurement, recorded so that a resume repeats them."""
    parts: JsonObject = {}
    """Parts of the experiment (``simulator``, ``learner`` …) that this trial replaces."""
    lineage: Lineage | None = None
    """Its place in a population; None outside one."""
    streams: int = 1
    """Version of the random numbers, as the experiment has it."""


class TrialRecord(Record):
    """``trials/t0001.json``: what was chosen for a trial; never changed."""

    number: int
    chooser: str
    """A chooser's name, ``defaults``, or ``confirm`` for the winner's second run."""
    assignment: JsonObject = {}
    """Every tunable and its value."""
    parts: JsonObject = {}
    """See ``RunRecord.parts``."""
    label: str = ""
    seeds: list[int]
    of: int | None = None
    """The trial that this one confirms."""
    memory: int | None = None
    """Number of the trial in the sampler's memory."""
    lineage: Lineage | None = None
    """Its place in a population; None outside one."""
    chosen_at: float

    @property
    def search(self) -> bool:
        """True if it counts as one of the study's trials."""
        return self.of is None


class MoreSeeds(Record):
    """``trials/t0001.more.json``: seeds that were added later."""

    seeds: list[int]
    rule: str
    """Why, as text."""


class TrialOutcome(Record):
    """``trials/t0001.outcome.json``: how a trial ended; written by the driver."""

    number: int
    status: Status
    values: dict[str, float] = {}
    """Objective -> value over the seeds; for a pruned trial the last known value."""
    by_seed: dict[str, dict[str, float]] = {}
    """Objective -> seed -> value."""
    steps: int = 0
    """Environment steps of all seeds."""
    started_at: float | None = None
    ended_at: float | None = None
    message: str = ""
    cause: Cause | None = None
    pruned_at: int | None = None
    """Step, or number of seeds, at which it was pruned."""


class StudyState(Record):
    """``study.json``: the progress of a study; rewritten by its driver."""

    phase: str = "search"
    """search | confirm | over"""
    chosen: int = 0
    succeeded: int = 0
    failed: int = 0
    pruned: int = 0
    cancelled: int = 0
    best: int | None = None
    best_values: dict[str, float] = {}
    front: list[int] = []
    """With several objectives: trials that no other trial beats in all of them."""
    budgets: dict[str, dict[str, float]] = {}
    """Name -> ``used`` and ``limit``."""
    stopped: str | None = None
    """Why it stopped before all of its trials, as text."""
    confirmed: int | None = None
    """The winner's second run."""
    seeds_rule: str | None = None
    """With ``seeds: auto``: whether the two best trials differ, and by which rule."""


class TicketRecord(Record):
    """``queue/<ticket>.json``: one phase of one run, to be done by one worker."""

    ticket: str
    run: str
    phase: Phase
    after: list[str] = []
    """Tickets that must have succeeded before this one is claimed."""
    environment: str = "default"
    """Interpreter and extra that the ticket needs; workers claim only what they can run."""
    order: int = 0
    """Position in the queue: lower is taken first."""
    attempts: int | None = None
    """How often it may begin, whatever ended it; None: as ``retries.RETRIES`` says."""
    posted_at: float


class Claim(Record):
    """``claims/<ticket>.<attempt>.json``: put-if-absent by the worker that does the work."""

    ticket: str
    attempt: int
    worker: str
    token: str
    """Random, so that a worker recognizes its own claim after a lost answer."""
    claimed_at: float


class Ending(Record):
    """``claims/<ticket>.<attempt>.ended.json``: put-if-absent by the worker, or closed as lost."""

    ticket: str
    attempt: int
    status: Status
    cause: Cause | None = None
    """None for SUCCEEDED."""
    message: str = ""
    hint: str | None = None
    traceback: str | None = None
    by: str
    ended_at: float


class FileEntry(Record):
    """A file in a manifest."""

    key: str
    """Key of the object, relative to the experiment's folder."""
    sha256: str
    size: int


class Manifest(Record):
    """Which objects make up a result; its own sha256 is what ``accepted`` names."""

    files: dict[str, FileEntry] = {}
    """Name as readers know it (``final_model.safetensors``) -> object."""


class Accepted(Record):
    """``runs/<run>/<phase>.accepted.json``: put-if-absent; readers follow only this."""

    run: str
    phase: Phase
    attempt: int
    status: Status
    manifest: str
    """Key of the manifest, relative to the experiment's folder."""
    manifest_sha256: str
    summary: JsonObject = {}
    """Small JSON: numbers and names for tables. ``mailbox.summaries`` reads it with types."""
    started_at: float
    ended_at: float


class Board(Record):
    """``board/<run>.json``: the heartbeat of the process that works on a run."""

    run: str
    phase: Phase
    attempt: int
    worker: str
    status: Status = Status.RUNNING
    step: int = 0
    total: int = 0
    episodes: int = 0
    episode_return: float | None = None
    """Mean return of the last episodes."""
    steps_per_s: float | None = None
    eta_s: float | None = None
    checkpoint_step: int | None = None
    message: str = ""
    usage: dict[str, float] = {}
    """Last sample of its machine: see ``drillyard.system.utilisation``."""
    beat: int = 0
    """Counts the writes of this attempt."""
    written_at: float


WORKER_STATES = ("starting", "ready", "failed", "leaving")
"""``failed``: the user's code or requirements cannot be installed, on any machine. A worker that
could not be set up for another reason is ``leaving`` and has no ``ready_at``."""


class WorkerRecord(Record):
    """``workers/<id>.json``: a worker; rewritten as its heartbeat."""

    worker: str
    lease: str
    state: str = "starting"
    """One of ``WORKER_STATES``."""
    slots: int = 1
    environments: list[str] = ["default"]
    host: str = ""
    pid: int = 0
    pid_started: float = 0.0
    boot_id: str | None = None
    """Boot id of the system that ``pid`` belongs to; None in records of earlier versions."""
    pid_namespace: int | None = None
    """Inode of the namespace that ``pid`` belongs to; 0 on systems that have none."""
    message: str = ""
    code: str | None = None
    """sha256 of the code bundle that is installed."""
    ready_at: float | None = None
    """When it became ready, by the store's clock."""
    software: dict[str, str] = Field({}, exclude_if=lambda value: not value)
    """What its machine has, once it is ready: ``python``, ``machine``, ``torch``, ``driver``."""
    usage: dict[str, float] = {}
    """Last sample of its machine: see ``drillyard.system.utilisation``."""
    warnings: list[str] = []
    """What is wrong with the use of its machine: memory that is nearly exhausted, an idle GPU."""
    beat: int = 0
    written_at: float


class Deleting(Record):
    """``deleting.json``: the experiment is being deleted, and no driver may start."""

    by: str
    """Host and process id, for people."""
    objects: int
    size: int
    """Bytes."""
    written_at: float


class DriverRecord(Record):
    """``driver/<n>.json``: a driver of the experiment; put-if-absent, then its heartbeat."""

    number: int
    host: str
    pid: int
    pid_started: float
    boot_id: str | None = None
    """See ``WorkerRecord``."""
    pid_namespace: int | None = None
    """See ``WorkerRecord``."""
    token: str
    command: list[str] = []
    started_at: float
    written_at: float
    ended_at: float | None = None
    outcome: str | None = None


class Cancel(Record):
    """``control/cancel.json``: no ticket is claimed and running ones stop at their next step."""

    reason: str
    by: str
    drain: bool = False
    """True: running tickets finish, and no new ones are claimed."""
    written_at: float


class Reopened(Record):
    """``control/reopened.json``: endings up to these attempts no longer count (same command)."""

    after: dict[str, int] = Field(default_factory=dict)
    pruned: dict[str, str] = Field(default_factory=dict)
    """Run -> why it is pruned: its worker stops, and its open tickets are not claimed."""


class AttemptStart(Record):
    """``runs/<run>/attempts/train-<n>/start.json``: where this attempt started."""

    attempt: int
    resumed_attempt: int | None = None
    resumed_step: int | None = None
    worker: str = ""
    host: str = ""
    started_at: float
