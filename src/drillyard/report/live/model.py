"""What the live page shows, as plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from drillyard.leases.spending import Spending
from drillyard.mailbox.records import Board, DriverRecord, ExperimentRecord, Phase, StudyState
from drillyard.mailbox.status import Status
from drillyard.results.model import RunCurves
from drillyard.results.stages import StagesResults
from drillyard.results.trials import StudyResults

STALE_S = 15.0
"""An older heartbeat is a warning. Only the driver decides whether a worker is dead."""


_RUN = re.compile(r"t(\d+)-s(\d+)\Z")


def trial_and_seed(run: str) -> tuple[int, int]:
    """The numbers in the id of a run: ``t0001-s42`` is (1, 42)."""
    match = _RUN.match(run)
    return (int(match[1]), int(match[2])) if match else (1, 0)


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run, at work or not."""

    run: str
    trial: int
    seed: int
    status: Status
    phase: Phase | None
    """The phase that it is in, or ended in."""
    attempts: int
    """Attempts of the phase with the most; 0 before the first."""
    printed: tuple[Phase, int] | None
    """Phase and attempt whose log is the newest; None before the first attempt."""
    board: Board | None
    beat_age_s: float | None
    """Age of its heartbeat by the store's clock, in seconds; None when nothing works on it."""
    message: str = ""
    hint: str | None = None
    mean_return: float | None = None
    """Final evaluation."""
    trained: int | None = None
    """Steps of its training, once that is accepted: then its board counts something else."""

    @property
    def steps_per_s(self) -> float | None:
        """Its speed, while it has a heartbeat."""
        return self.board.steps_per_s if self.board and self.beat_age_s is not None else None

    @property
    def left_s(self) -> float | None:
        """Seconds until it has trained, while it has a heartbeat."""
        return self.board.eta_s if self.board and self.beat_age_s is not None else None


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that has not left."""

    worker: str
    state: str
    host: str
    beat_age_s: float
    message: str
    runs: tuple[str, ...]
    """What it works on."""


@dataclass(frozen=True, slots=True)
class Log:
    """The last lines that a run printed."""

    run: str
    lines: tuple[str, ...]
    """Secrets are masked."""
    choices: tuple[str, ...]
    """Runs whose log can be shown."""


@dataclass(frozen=True, slots=True)
class Live:
    """An experiment at one moment."""

    record: ExperimentRecord
    store: str
    status: Status
    over: bool
    """True once everything has ended and no driver is at work."""
    runs: tuple[LiveRun, ...]
    """Every run, in queue order."""
    curves: tuple[RunCurves, ...]
    """Those of the runs that are drawn."""
    left_s: float | None
    """Seconds until the last run has trained, as an estimate."""
    to_come: int
    """Runs that a study has not chosen yet."""
    workers: tuple[LiveWorker, ...]
    driver: DriverRecord | None
    """The newest driver."""
    driver_age_s: float | None
    """Age of its heartbeat in seconds; None after its end."""
    cancelled: str | None
    """Who asked for a stop, and why."""
    spending: Spending | None
    study: StudyResults | None
    state: StudyState | None
    stages: StagesResults | None
    """What each stage of a composite is doing; such a composite has no runs of its own."""
    log: Log | None
    report: bool
    """Whether a report was built."""
    read_at: float
    """By the store's clock, in seconds since the epoch."""
    warnings: tuple[str, ...] = field(default=())
