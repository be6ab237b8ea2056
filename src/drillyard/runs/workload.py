"""The phases of a run as functions: what a worker calls for a ticket, and what it returns.

``train`` and ``evaluate`` belong to the workload; ``store`` is the same for all of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypedDict, Unpack, runtime_checkable

from drillyard.documents.json_types import JsonObject
from drillyard.errors import Stopped, Superseded
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox
from drillyard.mailbox.keys import check_key, encoded
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import Claim, FileEntry, Manifest, Phase, RunRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.utilisation import UsageSample


class StopSignal:
    """Why this process should stop soon: SIGTERM, a cancellation or a budget.

    The work reads it at every step. These reads also show that the work makes progress: see
    ``budget.stall_s``.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.looks = 0
        """How often it was read."""
        self.cause: Cause | None = None
        self.reason = ""

    def set(self, cause: Cause, reason: str) -> None:
        """Request a stop; the first reason stays."""
        if not self._event.is_set():
            self.cause, self.reason = cause, reason
            self._event.set()

    @property
    def requested(self) -> bool:
        """True once a stop was requested."""
        self.looks += 1
        return self._event.is_set()

    def check(self) -> None:
        """Raise if a stop was requested.

        Raises:
            Stopped: A stop was requested.
        """
        if self.requested:
            raise Stopped(self.reason)


class Transfers:
    """Counts the copies between this machine and a store or a share that are under way.

    One large file may take long, without a sign of activity: ``budget.stall_s`` does not count
    meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def __enter__(self) -> None:
        """Begin one."""
        with self._lock:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        """End one."""
        with self._lock:
            self._count -= 1

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._count > 0


class ProgressUpdate(TypedDict, total=False):
    """What a work reports about its progress. A value that is left out, or None, stays as it was.

    Attributes:
        step: Steps done.
        total: Steps to do.
        episodes: Finished episodes.
        episode_return: Mean return of the last episodes.
        checkpoint_step: Step of the newest checkpoint.
        message: One line for people.
        time_left_s: Seconds until a time limit of the work.
    """

    step: int
    total: int
    episodes: int
    episode_return: float | None
    checkpoint_step: int | None
    message: str
    time_left_s: float | None


class Progress(Protocol):
    """Reports progress. A call is cheap: it only keeps the values.

    The heartbeat thread writes the last values to the board once a second.
    """

    def __call__(self, **values: Unpack[ProgressUpdate]) -> None:
        """Keep the given values."""


def _no_progress(**_: Unpack[ProgressUpdate]) -> None:
    return None


@dataclass
class RunContext:
    """The input of a phase of a run."""

    spec: ExperimentSpec
    run: RunRecord
    phase: Phase
    attempt: int
    claim: Claim
    mailbox: Mailbox
    scratch: Path
    """Local folder of this attempt; deleted afterwards."""
    code: Path | None = None
    """The user's folder as unpacked on this worker; already on ``sys.path``."""
    stop: StopSignal = field(default_factory=StopSignal)
    progress: Progress = _no_progress
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("drillyard.run"))
    clock: Clock = SYSTEM
    usage: Callable[[], list[UsageSample]] = list
    """Returns the samples of the machine's use since the last call."""
    transfers: Transfers = field(default_factory=Transfers)
    child: str = ""
    """Name of this part of a composite, ``a/b`` for a part of a part; empty for the whole."""
    lines: dict[str, int] = field(default_factory=dict)
    """Number of lines that this attempt wrote, by stream; the children of a composite share it."""

    @property
    def folder(self) -> str:
        """The only folder of the mailbox that this attempt writes to."""
        return self.mailbox.attempt_path(self.run.run, self.phase, self.attempt)

    def save(self, name: str, source: bytes | Path) -> FileEntry:
        """Write a file of the result under this attempt.

        Args:
            name: Its name for readers; may contain ``/``, and characters that no key can have.
            source: Its bytes, or a local file.

        Returns:
            Its entry for the manifest.

        Raises:
            Superseded: The phase has an accepted result, which may consist of these very files:
                this process is a copy, on a machine that was cloned or set back while it worked.
            StoreUnavailable: The store stayed unreachable.
            UserError: No key can be made of the name.
        """
        from drillyard.mailbox.files import save_file  # hashes while it writes

        def write() -> FileEntry:
            if self.mailbox.accepted(self.run.run, self.phase) is not None:
                raise Superseded(f"`{self.phase.value}` of {self.run.run} has a result already")
            return save_file(self.mailbox, self.key_of(name), source)

        with self.transfers:
            return persist(write)

    def key_of(self, name: str) -> str:
        """The key of a file of the result, relative to the experiment's folder.

        Raises:
            UserError: No key can be made of the name: it is not UTF-8, or too long.
        """
        key = f"{self.folder}/{encoded(name)}"
        check_key(self.mailbox.key(key))
        return key


@dataclass
class PhaseOutcome:
    """The result of a phase; the worker writes the manifest and accepts it."""

    status: Status = Status.SUCCEEDED
    files: Manifest = field(default_factory=Manifest)
    summary: JsonObject = field(default_factory=dict)
    """Small JSON. ``train``: ``steps``, ``episodes``, ``wall_s``, ``steps_per_s`` (this attempt),
    ``parameters`` (as the built model really has them), ``resumes``. ``evaluate``: see
    ``drillyard.workloads.evaluate_phase``. ``store``: ``targets``."""


class Workload(Protocol):
    """A kind of work, registered under ``drillyard.workloads``; made without arguments.

    What only some workloads can do is ``SpreadsRuns`` and ``HandsRunsOn``.
    """

    kind: str

    def check(self, spec: ExperimentSpec, folder: Path | None) -> list[Finding]:
        """Check everything that can be checked before anything is rented.

        Args:
            spec: The resolved experiment.
            folder: The user's folder, on ``sys.path`` while this runs.

        Returns:
            What was checked, with its result. An error among them refuses the experiment. A
            mistake of the user may also be raised as ``UserError``.
        """

    def preload(self, spec: ExperimentSpec) -> list[str]:
        """Modules that a warm worker imports before its first ticket."""

    def freeze(self, spec: ExperimentSpec, seed: int) -> JsonObject:
        """Choices to freeze into ``run.json`` when the run is first posted."""

    def train(self, context: RunContext) -> PhaseOutcome:
        """Do the work. It resumes from the last checkpoint, if there is one."""

    def evaluate(self, context: RunContext) -> PhaseOutcome:
        """Measure the result."""


@runtime_checkable
class TriesTraining(Protocol):
    """A workload that can try its training in seconds, before anything is rented."""

    def try_training(self, spec: ExperimentSpec, scratch: Path, stop: StopSignal) -> str:
        """Trains, evaluates, writes a checkpoint and restores it, each as briefly as possible.

        Called in a process of its own, with the user's folder on ``sys.path``.

        Args:
            spec: The experiment as a run sees it.
            scratch: An empty folder for everything that is written.
            stop: Is set when the time is over.

        Returns:
            What was done, as a sentence without a subject; empty if nothing can be tried.

        Raises:
            Stopped: ``stop`` was set.
            DrillyardError: The training cannot work.
        """


@runtime_checkable
class LimitsAttempts(Protocol):
    """A workload that must not be repeated as often as others."""

    attempts: int
    """The most attempts of a phase, whatever ends them."""


@runtime_checkable
class SpreadsRuns(Protocol):
    """A workload, or a learner, whose single run can use several machines at once."""

    def spread(self, spec: ExperimentSpec) -> int:
        """On how many machines at once one run can be of use; at least 1."""


@runtime_checkable
class HandsRunsOn(Protocol):
    """A workload whose run can go on from where another one ended, as populations need."""

    def check_lineage(self, spec: ExperimentSpec) -> None:
        """Refuse an experiment of which no run can take over from another one.

        Raises:
            ConfigError: Why not.
        """
