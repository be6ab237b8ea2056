"""The contract of a tracker: what ``[project.entry-points."drillyard.trackers"]`` names.

An entry point is called with an experiment's mailbox and an address, and returns a ``Tracker``.
drillyard calls it in a process of its own, which it starts, waits for within a bound and may kill
at any moment. So a tracker may block, and loses nothing when it is killed: it reads the mailbox
again.

A tracker that only draws curves need not read the mailbox itself: it is a ``CurveWriter``, which
``drillyard.tracking.curves.CurveTracker`` feeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from drillyard.mailbox import Mailbox
from drillyard.tracking.sync_report import SyncReport

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


@runtime_checkable
class Tracker(Protocol):
    """Copies one experiment from its mailbox to another place, as often as it is asked."""

    @property
    def mailbox(self) -> Mailbox:
        """The experiment."""
        ...

    def sync(self, *, trust: bool = False) -> SyncReport:
        """Send what the place does not have.

        Args:
            trust: Believe the notes about runs that were sent completely, without a look at the
                place.

        Returns:
            What was sent, and the first thing that went wrong. It raises nothing for the place's
            sake.
        """
        ...

    def settled(self) -> bool:
        """Returns whether no run will change unless it is started again."""
        ...

    def close(self) -> None:
        """Called once, after the last ``sync``: complete what is open, and release it.

        Raises:
            DrillyardError: The place did not take the rest.
        """
        ...


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


__all__ = ["MLFLOW", "CurveWriter", "Row", "RunFacts", "Target", "Tracker", "title"]
