"""Opens finished work again: after a larger budget, for a damaged result, for a new start.

Results are put-if-absent, so repeating a phase takes three steps whose order matters: the accepted
record is copied aside, deleted, and only then are the old endings forgiven, which lets a worker
claim the next attempt. A crash in between leaves a success without a result, which the next
command sees as damaged and opens again. Checkpoints stay: a repeated training continues from its
last one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from drillyard.driver.verified_files import VerifiedFiles
from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import PHASES, Phase

log = logging.getLogger(__name__)


def damaged(mailbox: Mailbox, succeeded: Mapping[str, Iterable[Phase]]) -> dict[str, Phase]:
    """Runs with a damaged result, and the first such phase.

    Args:
        mailbox: The experiment.
        succeeded: Run -> phases whose tickets have succeeded.
    """
    first = {}
    files = VerifiedFiles(mailbox)
    for run, phases in succeeded.items():
        for phase in sorted(phases, key=PHASES.index):
            accepted = mailbox.accepted(run, phase)
            try:
                if accepted is None:
                    raise CorruptObject(f"the accepted {phase.value} of {run} is missing")
                files.verify(accepted)
            except CorruptObject as error:
                log.warning("%s: %s and the phases after it are repeated", error, phase.value)
                first[run] = phase
                break
    return first


def repeat(mailbox: Mailbox, first: Mapping[str, Phase]) -> None:
    """Open accepted phases again, with all phases after them.

    Args:
        mailbox: The experiment.
        first: Run -> first phase whose result no longer counts. No living worker may hold one of
            their tickets.
    """
    if not first:
        return
    again = [(run, p) for run, phase in first.items() for p in PHASES[PHASES.index(phase) :]]
    for run, phase in reversed(again):
        accepted = mailbox.accepted(run, phase)
        if accepted is not None:
            aside = f"runs/{run}/superseded/{phase.value}-{accepted.attempt}.accepted.json"
            mailbox.create(aside, accepted)
        mailbox.store.delete(mailbox.key(f"runs/{run}/{phase.value}.accepted.json"))
    forgive(mailbox, [ticket_id(run, phase) for run, phase in again])


def forgive(mailbox: Mailbox, tickets: Iterable[str]) -> None:
    """Forgive the endings of some tickets so far.

    Args:
        mailbox: The experiment.
        tickets: Ticket ids. Tickets that were never claimed have no endings.
    """
    newest: dict[str, int] = {}
    for ticket, attempt, _ in mailbox.claims():
        newest[ticket] = max(attempt, newest.get(ticket, 0))
    before = mailbox.reopened()
    after = dict(before.after)
    for ticket in tickets:
        if ticket in newest:
            after[ticket] = max(newest[ticket], after.get(ticket, 0))
    if after != before.after:
        mailbox.write("control/reopened.json", before.model_copy(update={"after": after}))
