"""The results of ended tickets. Every file is verified once."""

from __future__ import annotations

from drillyard.driver.outcome import failure
from drillyard.driver.reconcile import DONE
from drillyard.driver.verified_files import VerifiedFiles
from drillyard.errors import CorruptObject, Stopped
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState


class VerifiedResults:
    """The verified results of one experiment.

    Args:
        mailbox: The experiment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._files = VerifiedFiles(mailbox)
        self._verified: set[tuple[str, int]] = set()

    def of(self, state: TicketState) -> Accepted:
        """The result of a ticket.

        Args:
            state: Its final state.

        Raises:
            DrillyardError: Why there is no result; see ``Driver.wait``.
        """
        ticket = state.ticket.ticket
        if state.status not in DONE:
            raise failure(self._mailbox, ticket, state)
        accepted = self._mailbox.accepted(state.ticket.run, state.ticket.phase)
        if accepted is None and state.status is Status.PRUNED:
            why = state.ending.message if state.ending is not None else "its trial was pruned"
            raise Stopped(f"{ticket} was pruned: {why}")
        if accepted is None:
            raise CorruptObject(
                f"{ticket} succeeded, but its result is missing", hint="run the command again"
            )
        if (ticket, accepted.attempt) not in self._verified:
            self._files.verify(accepted)
            self._verified.add((ticket, accepted.attempt))
        return accepted
