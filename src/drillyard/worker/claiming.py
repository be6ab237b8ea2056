"""The claim of a ticket: an object that only one worker can create."""

from __future__ import annotations

import logging

from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import new_token
from drillyard.mailbox.records import Claim
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import Clock
from drillyard.worker.outbox import EndingOutbox

log = logging.getLogger(__name__)


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
    made = Claim(
        ticket=state.ticket.ticket,
        attempt=state.claimable,
        worker=worker,
        token=new_token(),
        claimed_at=clock.now(),
    )
    try:
        mine = mailbox.claim(made)
    except InfrastructureError as error:
        # The claim may have been written. Its token identifies it.
        log.warning("claiming %s: %s", made.ticket, error)
        mine = found_again(mailbox, outbox, made)
    if not mine:
        return None
    log.info("claimed %s, attempt %d", made.ticket, made.attempt)
    return made


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
