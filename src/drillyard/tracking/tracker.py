"""The contract of a tracker: what ``[project.entry-points."drillyard.trackers"]`` names.

An entry point is called with an experiment's mailbox and an address, and returns a ``Tracker``.
drillyard calls it in a process of its own, which it starts, waits for within a bound and may kill
at any moment. So a tracker may block, and loses nothing when it is killed: it reads the mailbox
again.

A tracker that only draws curves is a ``CurveWriter``, which
``drillyard.tracking.curves.CurveTracker`` feeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import ExperimentRecord, RunRecord
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.redaction import redact
from drillyard.tracking import status_map
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.uris import mask

MLFLOW = "mlflow"
_TITLES = {MLFLOW: "MLflow", "wandb": "W&B", "csv": "CSV files"}


def title(tracker: str) -> str:
    """The name of a tracker in sentences.

    Args:
        tracker: Its registered name.
    """
    return _TITLES.get(tracker, tracker)


class Target(NamedTuple):
    """A place that an experiment is copied to.

    Attributes:
        tracker: Registered name of the tracker.
        address: What the experiment's file says, resolved.
    """

    tracker: str
    address: str

    @property
    def key(self) -> str:
        """Identifies the place in the mailbox's notes."""
        return self.address if self.tracker == MLFLOW else f"{self.tracker}:{self.address}"


@dataclass
class Sent:
    """What one synchronisation has sent so far.

    Attributes:
        runs: Runs that were looked at.
        points: Values of curves.
        artifacts: Files.
        registered: See ``SyncReport``.
        problems: What went wrong with single runs; the others were sent.
    """

    runs: int = 0
    points: int = 0
    artifacts: int = 0
    registered: str = ""
    problems: list[DrillyardError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an experiment and its runs are doing.

    Attributes:
        record: The experiment.
        states: Its tickets.
        runs: Its runs, by name.
        words: Run -> MLflow's word for its status.
        alive: A driver or a worker is active.
    """

    record: ExperimentRecord
    states: Mapping[str, TicketState]
    runs: Mapping[str, RunRecord]
    words: Mapping[str, str]
    alive: bool


class Tracker:
    """Copies one experiment from its mailbox to another place, as often as it is asked.

    Args:
        mailbox: The experiment.
        target: The place.
        clock: For the times in the notes.
    """

    def __init__(self, mailbox: Mailbox, target: Target, clock: Clock = SYSTEM) -> None:
        self.mailbox = mailbox
        self._target = target
        self._clock = clock
        self._cache = StateCache()
        self._records: dict[str, RunRecord] = {}

    def send(self, sent: Sent, *, trust: bool) -> None:
        """Send what the place does not have; not called where a class has its own ``sync``.

        Args:
            sent: Counts what was sent, also if an error is raised.
            trust: See ``sync``.

        Raises:
            DrillyardError: The place does not take it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `send`")

    def link(self) -> str | None:
        """Where a browser sees the experiment, or None."""
        return None

    def close(self) -> None:
        """Called once, after the last ``sync``: complete what is open, and release it.

        Raises:
            DrillyardError: The place did not take the rest.
        """

    def sync(self, *, trust: bool = False) -> SyncReport:
        """Send what the place does not have.

        Args:
            trust: Believe the notes about runs that were sent completely, without a look at the
                place. A tracker in the background does, so that a study of a thousand finished
                runs costs nothing; ``drillyard sync`` does not.

        Returns:
            What was sent, and the first thing that went wrong. It raises nothing for the place's
            sake.
        """
        began, sent = self._clock.monotonic(), Sent()
        try:
            self.send(sent, trust=trust)
        except DrillyardError as error:
            sent.problems.insert(0, error)
        problem = sent.problems[0] if sent.problems else None
        return SyncReport(
            uri=mask(self._target.address),
            tracker=self._target.tracker,
            runs=sent.runs,
            points=sent.points,
            artifacts=sent.artifacts,
            complete=problem is None,
            error=None if problem is None else mask(redact(str(problem))),
            hint=None if problem is None else problem.hint,
            registered=sent.registered,
            link=self.link(),
            wall_s=round(self._clock.monotonic() - began, 3),
        )

    def settled(self) -> bool:
        """Returns whether no run will change unless it is started again."""
        states = ticket_states(self.mailbox, self._cache)
        return all(s.status.ended for s in states.values()) or not status_map.alive(self.mailbox)

    def standing(self) -> Standing:
        """Reads how the experiment is doing; records of runs are read once."""
        record = self.mailbox.experiment_record()
        states = ticket_states(self.mailbox, self._cache)
        for name in {s.ticket.run for s in states.values()} - self._records.keys():
            self._records[name] = self.mailbox.run(name)
        alive = status_map.alive(self.mailbox)
        runs = {name: self._records[name] for name in sorted(self._records)}
        words = {name: status_map.word(states, name, alive) for name in runs}
        return Standing(record, states, runs, words, alive)


class Row(NamedTuple):
    """Values that were measured together.

    Attributes:
        step: Environment steps.
        time: Unix seconds at which they were measured.
        values: Name of a curve -> finite number.
    """

    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunFacts:
    """What a place is told about a run. Secrets are masked.

    Attributes:
        id: Distinguishes the run from every other in the world; letters, digits, ``-``.
        run: Its name in the experiment, for example ``t0001-s1``.
        experiment: Name of the experiment.
        trial: Number of the trial.
        seed: Seed of the run.
        started_at: Unix seconds.
        params: Parameters by dotted names.
        tags: Where it came from: code, versions, backend.
    """

    id: str
    run: str
    experiment: str
    trial: int
    seed: int
    started_at: float
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class CurveWriter(Protocol):
    """Writes the curves of runs to one place. Any exception means: begin that run again later."""

    def begin(self, run: RunFacts) -> None:
        """Start a run from nothing: what the place has under this id is replaced.

        It is called again for a run that was begun in an earlier process, or that was resumed
        since: all its rows follow. So nothing is there twice, whoever was killed when.
        """
        ...

    def write(self, run: RunFacts, rows: Sequence[Row]) -> None:
        """Add rows, in the order in which they are drawn."""
        ...

    def end(self, run: RunFacts, status: str, final: Mapping[str, float]) -> None:
        """Complete a run; return when the place has everything of it.

        Args:
            run: With the parameters that are known at the end.
            status: FINISHED, FAILED or KILLED.
            final: End values of training and of the final evaluation.
        """
        ...

    def has(self, run: RunFacts) -> bool:
        """Returns whether a run that was completed is still there, if this can be known."""
        ...

    def link(self) -> str | None:
        """Where a browser sees the experiment, or None."""
        ...

    def close(self) -> None:
        """Complete and release everything that is open."""
        ...
