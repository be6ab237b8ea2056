"""Where stopped trainings go on, in words: at a stop and at the next command."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.results.formatting import plural
from drillyard.runs import checkpoints

MOST_LINES = 10
_NOT_STOPPED = {Status.SUCCEEDED, Status.PRUNED, Status.RUNNING, Status.FAILED, Status.TIMED_OUT}


def going_on(mailbox: Mailbox, states: Mapping[str, TicketState]) -> list[str]:
    """One sentence for each training that was begun and stopped.

    Args:
        mailbox: The experiment.
        states: States of its tickets.

    Returns:
        The step at which each goes on and how many steps it repeats; at most ten, and their
        number. Empty for work that does not count environment steps.

    Raises:
        InfrastructureError: The mailbox cannot be read.
    """
    record = mailbox.experiment_record()
    if record.spec.get("workload", "rl") != "rl":
        return []
    stopped = [
        state.ticket.run
        for state in states.values()
        if state.ticket.phase is Phase.TRAIN and state.status not in _NOT_STOPPED
    ]
    lines: list[str] = []
    more = 0
    for run in stopped:
        board = mailbox.board(run)
        if board is None or board.phase is not Phase.TRAIN or board.step == 0:
            continue
        if len(lines) == MOST_LINES:
            more += 1
            continue
        kept = max((step for step, _ in checkpoints.found(mailbox, run)), default=0)
        lines.append(_sentence(run, kept, board.step - kept))
    return [*lines, f"and {plural(more, 'more run')}"] if more else lines


def _sentence(run: str, kept: int, repeated: int) -> str:
    if repeated <= 0:
        return f"{run} continues at step {kept:,}, where it stopped; no step is repeated"
    where = (
        f"continues at step {kept:,}, its last checkpoint"
        if kept
        else "has no checkpoint yet and starts again at step 0"
    )
    return f"{run} {where}; {repeated:,} step{'s are' if repeated > 1 else ' is'} repeated"
