"""The running tickets of a worker: starts, stops, kills and collects their processes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from drillyard.mailbox.status import Cause
from drillyard.worker.machine import Exit, Job, Machine, TicketProcess

log = logging.getLogger(__name__)


@dataclass
class Running:
    """A running ticket.

    Attributes:
        process: Its process.
        stopping_since: Monotonic seconds of the first stop request.
        stopped_by: That request.
    """

    process: TicketProcess
    stopping_since: float | None = None
    stopped_by: tuple[Cause, str] | None = None

    def stop(self, now: float, cause: Cause, reason: str) -> None:
        """Ask for a stop soon; the first request counts."""
        if self.stopped_by is None:
            self.stopping_since, self.stopped_by = now, (cause, reason)
            self.process.ask_to_stop(cause, reason)

    def kill_late(self, now: float, grace_s: float) -> None:
        """Kill a process that did not stop in time."""
        if self.stopping_since is not None and now - self.stopping_since > grace_s:
            name = self.process.job.ticket.ticket
            log.warning("%s did not stop within %.0f s", name, grace_s)
            self.process.kill()


class RunningTickets:
    """The running tickets of one worker, at most one for each slot.

    Args:
        machine: Where they run.

    Attributes:
        reserved: Slots that have something else than a ticket.
    """

    def __init__(self, machine: Machine) -> None:
        self.reserved = 0
        self._machine = machine
        self._tickets: list[Running] = []

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def free(self) -> int:
        """Slots without a ticket or anything else."""
        return self._machine.slots - len(self._tickets) - self.reserved

    @property
    def free_place(self) -> int:
        """The lowest free place."""
        taken = {ticket.process.job.place for ticket in self._tickets}
        return next(place for place in itertools.count() if place not in taken)

    @property
    def alive(self) -> bool:
        """Whether a process of a ticket runs, or has ended and was not collected yet."""
        return any(ticket.process.alive for ticket in list(self._tickets))

    @property
    def runs(self) -> set[str]:
        """The runs of the tickets."""
        return {job.ticket.run for each in self._tickets for job in each.process.job.all}

    def start(self, job: Job) -> None:
        """Start a process.

        Raises:
            Exception: No process can be started here.
        """
        self._tickets.append(Running(self._machine.start(job)))

    def stop(
        self, now: float, cause: Cause, reason: str, runs: Collection[str] | None = None
    ) -> None:
        """Ask all, or those of some runs, to stop soon; the first request to each counts.

        A process that trains several runs is stopped once all of them are named, so that no
        neighbour loses its work. What a run writes after its attempt was ended counts nowhere.
        """
        for ticket in list(self._tickets):
            its_runs = {job.ticket.run for job in ticket.process.job.all}
            if runs is None or its_runs <= set(runs):
                ticket.stop(now, cause, reason)

    def kill_late(self, now: float, grace_s: float) -> None:
        """Kill those whose stop request is older than a limit."""
        for ticket in list(self._tickets):
            ticket.kill_late(now, grace_s)

    def take_in(self, ended: Callable[[Job, Exit, tuple[Cause, str] | None], None]) -> bool:
        """Collect the tickets whose processes have ended.

        Args:
            ended: Called with each: its job, how its process ended, and the stop request. Its
                local folder exists until the call returns.

        Returns:
            True if there was one.
        """
        found = False
        for ticket in list(self._tickets):
            exit = ticket.process.poll()
            if exit is not None:
                found = True
                self._tickets.remove(ticket)
                ended(ticket.process.job, exit, ticket.stopped_by)
                for job in ticket.process.job.all:
                    self._machine.remove(job)
        return found
