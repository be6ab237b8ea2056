"""The claim of a ticket: an object that only one worker can create."""

from __future__ import annotations

import logging

from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import new_token
from drillyard.mailbox.records import Claim, Phase
from drillyard.mailbox.status import Cause
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import Clock
from drillyard.worker.outbox import EndingOutbox

LONGEST_PAUSE_S = 8.0
LOST_TOGETHER = 2
"""Losses of a process with several tickets after which each of them has one of its own."""
log = logging.getLogger(__name__)


class Pauses:
    """Pauses of 1, 2, 4, 8 and 8 s before the attempts of a run that was lost again and again.

    What loses it may last for seconds, such as a store that refuses everything, and would
    otherwise use up all attempts. A pause begins when this worker first sees the ending, so that
    no clocks are compared, and only the endings that it has seen count: after a command that
    opens the run again, the pauses are short again.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, float]] = {}
        """Ticket -> its next attempt, how many were lost, and when this one was first seen."""

    def over(self, state: TicketState, now: float) -> bool:
        """Whether a ticket may be claimed.

        Args:
            state: The ticket.
            now: Monotonic seconds.
        """
        attempt = state.claimable
        lost = state.ending is not None and state.ending.cause is Cause.INFRASTRUCTURE
        if attempt is None or not lost:
            return True
        following, losses, since = self._seen.get(state.ticket.ticket, (0, 0, now))
        if following != attempt:
            losses, since = losses + 1, now
            self._seen[state.ticket.ticket] = (attempt, losses, since)
        return now - since >= min(2.0 ** (losses - 1), LONGEST_PAUSE_S)


def claim(
    mailbox: Mailbox, outbox: EndingOutbox, state: TicketState, worker: str, clock: Clock
) -> Claim | None:
    """Claim a ticket that is free.

    Args:
        mailbox: Where the claim is created.
        outbox: Gets the ending of a claim whose fate is unknown.
        state: The ticket.
        worker: Id of the worker that claims it.
        clock: For the time in the claim.

    Returns:
        The claim; None if another worker was first, or the store does not say.
    """
    if state.claimable is None:
        return None
    new_claim = Claim(
        ticket=state.ticket.ticket,
        attempt=state.claimable,
        worker=worker,
        token=new_token(),
        claimed_at=clock.now(),
    )
    try:
        owned = mailbox.claim(new_claim)
    except InfrastructureError as error:
        # The claim may have been written. Its token identifies it.
        log.warning("claiming %s: %s", new_claim.ticket, error)
        owned = found_again(mailbox, outbox, new_claim)
    if not owned:
        return None
    log.info("claimed %s, attempt %d", new_claim.ticket, new_claim.attempt)
    return new_claim


def found_again(mailbox: Mailbox, outbox: EndingOutbox, made: Claim) -> bool:
    """Whether a claim whose answer was lost is in the mailbox."""
    try:
        now = mailbox.read_claim(made.ticket, made.attempt)
    except InfrastructureError:
        # If it was written after all, it needs an ending as soon as the store is back.
        why = "the store became unreachable during the claim"
        outbox.keep(outbox.infrastructure(made, why))
        return False
    return now is not None and now.token == made.token


def may_join(state: TicketState) -> bool:
    """Whether a ticket may share a process with others.

    One run that ends its process (native code that crashes, memory) ends its neighbours with it.
    After ``LOST_TOGETHER`` such losses each goes on alone, so that no neighbour uses up the
    attempts of the others.
    """
    lost = state.ending is not None and state.ending.cause is Cause.INFRASTRUCTURE
    often = (state.claimable or 0) > LOST_TOGETHER
    return state.ticket.phase is Phase.TRAIN and not (lost and often)
