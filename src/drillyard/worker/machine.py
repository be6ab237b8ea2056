"""What a worker needs from its machine, as protocols, so that a simulation can replace it.

The worker decides by the mailbox; processes, packages and signals are behind these protocols.
``pool`` is the real machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drillyard.backend import Order
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Claim, TicketRecord
from drillyard.mailbox.status import Cause
from drillyard.system.redaction import redact
from drillyard.system.utilisation import Monitor
from drillyard.worker.logship import LogShipper

LOG_NAME = "log.txt"


@dataclass(frozen=True, slots=True)
class Job:
    """The job of a ticket's process.

    Attributes:
        store_url: The mailbox's store.
        experiment: Its folder there.
        ticket: The ticket to do.
        claim: Its claim.
        scratch: Local folder of this attempt; the process creates it, the worker deletes it.
        paths: Folders for the front of ``sys.path``, the user's code first.
        has_code: Whether the first of ``paths`` is the user's folder.
        place: Its place among the tickets of this machine, from 0.
        gpus: The GPUs that it may use; empty: all.
        together: Trainings that the process computes together.
        others: The jobs of the other trainings of the process.
    """

    store_url: str
    experiment: str
    ticket: TicketRecord
    claim: Claim
    scratch: Path
    paths: tuple[Path, ...] = ()
    has_code: bool = False
    place: int = 0
    gpus: tuple[str, ...] = ()
    together: int = 1
    others: tuple[Job, ...] = ()

    @property
    def all(self) -> tuple[Job, ...]:
        """The jobs of the process: this one, then the others."""
        return (self, *self.others)

    @property
    def log_path(self) -> Path:
        """File for the output of the process."""
        return self.scratch / LOG_NAME

    @property
    def programs(self) -> Path:
        """Folder for compiled programs, which the attempts of a worker share."""
        return self.scratch.parents[1] / "programs"

    def shipper(self, mailbox: Mailbox) -> LogShipper:
        """The shipper of this attempt's log."""
        folder = mailbox.attempt_path(self.ticket.run, self.ticket.phase, self.claim.attempt)
        return LogShipper(mailbox, folder, self.log_path, redact)


@dataclass(frozen=True)
class Exit:
    """How a ticket's process ended.

    Attributes:
        code: Exit code as in ``multiprocessing``: negative for a signal; None if unknown.
        out_of_memory: The kernel killed processes of this machine meanwhile: no free memory.
        inside: The simulator step that it was in; empty if there is none.
    """

    code: int | None
    out_of_memory: bool = False
    inside: str = ""


class TicketProcess(Protocol):
    """A process that does one ticket, or those of ``Job.all``.

    All but ``poll`` may be called from any thread.
    """

    @property
    def job(self) -> Job:
        """Its job."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    def poll(self) -> Exit | None:
        """How it ended, after everything that it started has ended; None while it runs."""

    def ask_to_stop(self, cause: Cause, reason: str) -> None:
        """Ask it to stop soon; no effect if it has ended."""

    def kill(self) -> None:
        """End it and all that it started, at once."""


class Machine(Protocol):
    """Where tickets run.

    Attributes:
        slots: Tickets at once.
        usage: Samples its use; None for no samples.
    """

    slots: int
    usage: Monitor | None

    def prepare(self, mailbox: Mailbox, order: Order) -> None:
        """Start to install the user's code and to warm up; returns at once.

        Called again after ``prepared`` raised an error that may pass.
        """

    def prepared(self) -> tuple[Path, ...] | None:
        """Folders for the front of ``sys.path``; None while the installation runs.

        Raises:
            UserError: The code, its requirements or the GPUs are not available here.
            DrillyardError: Another reason why nothing can run here.
        """

    @property
    def warm(self) -> bool:
        """True if a ticket's process can start at once."""

    def gpus(self) -> Sequence[str]:
        """Names of the GPUs that tickets may use."""

    def start(self, job: Job) -> TicketProcess:
        """Start a process for a ticket.

        Raises:
            Exception: No process can be started here, for any reason.
        """

    def remove(self, job: Job) -> None:
        """Delete the local folder of an attempt that has ended."""

    def wake(self) -> None:
        """Make the loop call the worker's step now; safe in a signal handler."""

    def wait(self, timeout_s: float) -> None:
        """Wait until a ticket's process ends, ``wake`` is called, or the time is over.

        Only the loop around the steps calls it.
        """

    def close(self) -> None:
        """End everything that ``prepare`` started."""
