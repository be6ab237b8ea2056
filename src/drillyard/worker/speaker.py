"""Saying how attempts ended, until the store has heard it."""

from __future__ import annotations

import logging

from drillyard.errors import InfrastructureError, NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Claim, Ending
from drillyard.mailbox.status import Cause
from drillyard.system.clock import Clock
from drillyard.worker import endings
from drillyard.worker.machine import Exit, Job

log = logging.getLogger(__name__)


class Speaker:
    """The endings that one worker owes.

    Args:
        mailbox: The experiment.
        worker: Who speaks: the endings of attempts that another one holds are not said.
        clock: For the stamps.
    """

    def __init__(self, mailbox: Mailbox, worker: str, clock: Clock) -> None:
        self._mailbox = mailbox
        self._worker = worker
        self._clock = clock
        self._unsaid: dict[tuple[str, int], Ending] = {}

    @property
    def owed(self) -> set[str]:
        """Tickets whose endings could not be said yet, because the store was away."""
        return {ticket for ticket, _ in self._unsaid}

    def infrastructure(self, claim: Claim, message: str) -> Ending:
        """The ending of an attempt whose work never began."""
        return endings.failed(claim, self._clock, Cause.INFRASTRUCTURE, message)

    def silent(self, job: Job, exit: Exit, stopped_by: tuple[Cause, str] | None) -> None:
        """A ticket's process ended without a word: ship its log and say the ending for it.

        Args:
            job: What it was told.
            exit: How it ended.
            stopped_by: What it was asked to stop for, and why; None: it was not asked.
        """
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
        self.say(ending)

    def say(self, ending: Ending) -> None:
        """Write an ending, unless its result was accepted; later when the store is away."""
        self.owe(ending)
        try:
            claim = self._mailbox.read_claim(ending.ticket, ending.attempt)
            if claim is not None and claim.worker == self._worker:
                ticket = self._mailbox.ticket(ending.ticket)
                accepted = self._mailbox.accepted(ticket.run, ticket.phase)
                if accepted is not None and accepted.attempt == ending.attempt:
                    ending = endings.succeeded(claim, self._clock, status=accepted.status)
                self._mailbox.end(ending)
        except InfrastructureError as error:
            log.warning("cannot say the ending of %s yet: %s", ending.ticket, error)
            return
        except NotFound:
            log.warning("ticket %s was removed", ending.ticket)
        del self._unsaid[(ending.ticket, ending.attempt)]

    def owe(self, ending: Ending) -> None:
        """Keep an ending, to be said as soon as the store is back."""
        self._unsaid[(ending.ticket, ending.attempt)] = ending

    def say_again(self) -> None:
        """Try once more to say what is owed."""
        for ending in list(self._unsaid.values()):
            self.say(ending)
