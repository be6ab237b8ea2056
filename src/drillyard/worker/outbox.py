"""How attempts ended: records that a worker owes, kept until the store has taken them."""

from __future__ import annotations

import contextlib
import logging

from drillyard.errors import InfrastructureError, NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Claim, Ending
from drillyard.mailbox.status import Cause
from drillyard.system.clock import Clock
from drillyard.worker import endings, failed_episode
from drillyard.worker.machine import Exit, Job

log = logging.getLogger(__name__)


class EndingOutbox:
    """The endings that one worker has to write.

    Args:
        mailbox: The experiment.
        worker: Who writes: endings of attempts that another worker holds are left to that one.
        clock: For the stamps.
    """

    def __init__(self, mailbox: Mailbox, worker: str, clock: Clock) -> None:
        self._mailbox = mailbox
        self._worker = worker
        self._clock = clock
        self._unwritten: dict[tuple[str, int], Ending] = {}

    @property
    def unwritten(self) -> set[str]:
        """Tickets whose endings could not be written yet, because the store was away."""
        return {ticket for ticket, _ in self._unwritten}

    def infrastructure(self, claim: Claim, message: str) -> Ending:
        """The ending of an attempt whose work never began."""
        return endings.failed(claim, self._clock, Cause.INFRASTRUCTURE, message)

    def write_for(
        self,
        job: Job,
        exit: Exit,
        stopped_by: tuple[Cause, str] | None,
        *,
        shared: bool = False,
    ) -> None:
        """A ticket's process ended: ship its log and write an ending, unless there is one.

        Args:
            job: What it was told.
            exit: How it ended.
            stopped_by: What it was asked to stop for, and why; None: it was not asked.
            shared: Other tickets had the same process: one of them may have ended it.
        """
        with contextlib.suppress(InfrastructureError):  # then the store keeps the first one
            if self._mailbox.ending(job.claim.ticket, job.claim.attempt) is not None:
                return
        try:
            job.shipper(self._mailbox).ship(everything=True)
        except (InfrastructureError, OSError) as error:
            log.warning("the log of %s is incomplete: %s", job.ticket.ticket, error)
        if stopped_by is not None:
            cause, reason = stopped_by
            ending = endings.failed(
                job.claim, self._clock, cause, f"{reason}; it did not stop in time and was killed"
            )
        else:
            ending = endings.of_exit(
                job.claim, self._clock, exit.code, exit.out_of_memory, exit.inside
            )
            if shared and ending.cause is not Cause.INFRASTRUCTURE:
                text = f"{ending.message}; which of the runs of this process it was is not known"
                ending = self.infrastructure(job.claim, text)
            if exit.inside:
                now = self._clock.now()
                ending = failed_episode.store(job, self._mailbox, ending, now, ended=True)
        self.write(ending)

    def write(self, ending: Ending) -> None:
        """Write an ending, unless its result was accepted; later when the store is away."""
        self.keep(ending)
        try:
            claim = self._mailbox.read_claim(ending.ticket, ending.attempt)
            if claim is not None and claim.worker == self._worker:
                ticket = self._mailbox.ticket(ending.ticket)
                accepted = self._mailbox.accepted(ticket.run, ticket.phase)
                if accepted is not None and accepted.attempt == ending.attempt:
                    ending = endings.succeeded(claim, self._clock, status=accepted.status)
                self._mailbox.end(ending)
        except InfrastructureError as error:
            log.warning("the ending of %s cannot be written yet: %s", ending.ticket, error)
            return
        except NotFound:
            log.warning("ticket %s was removed", ending.ticket)
        del self._unwritten[(ending.ticket, ending.attempt)]

    def keep(self, ending: Ending) -> None:
        """Keep an ending, to be written as soon as the store is back."""
        self._unwritten[(ending.ticket, ending.attempt)] = ending

    def write_again(self) -> None:
        """Try once more to write what is kept."""
        for ending in list(self._unwritten.values()):
            self.write(ending)
