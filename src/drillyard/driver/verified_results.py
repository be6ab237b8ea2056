"""The results of tickets that have ended, every file of them verified once."""

from __future__ import annotations

from drillyard.driver import reopen
from drillyard.driver.outcome import failure
from drillyard.driver.reconcile import DONE
from drillyard.errors import CorruptObject, Stopped
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState


class VerifiedResults:
    """Results of one experiment, as its driver hands them on.

    Args:
        mailbox: The experiment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._verified: set[tuple[str, int]] = set()

    def of(self, state: TicketState) -> Accepted:
        """The result of a ticket.

        Args:
            state: As the mailbox decided it.

        Raises:
            DrillyardError: Why there is none; see ``Driver.wait``.
        """
        ticket = state.ticket.ticket
        if state.status not in DONE:
            raise failure(self._mailbox, ticket, state)
        accepted = self._mailbox.accepted(state.ticket.run, state.ticket.phase)
        if accepted is None and state.status is Status.PRUNED:
            why = state.ending.message if state.ending is not None else "its trial was given up"
            raise Stopped(f"{ticket} was pruned: {why}")
        if accepted is None:
            raise CorruptObject(
                f"{ticket} succeeded, but its result is missing", hint="run the command again"
            )
        if (ticket, accepted.attempt) not in self._verified:
            reopen.verify(self._mailbox, accepted)
            self._verified.add((ticket, accepted.attempt))
        return accepted
