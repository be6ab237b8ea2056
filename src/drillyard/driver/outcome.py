"""What a decided ticket without a result means to its caller: one error of the tree."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.errors import DrillyardError, RunFailed, Stopped, TimedOut, WorkerLost
from drillyard.mailbox import Mailbox
from drillyard.mailbox.command_hints import command
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState

MOST_LINES = 20


def failure(mailbox: Mailbox, ticket: str, state: TicketState) -> DrillyardError:
    """The error to raise for a ticket that ended without success.

    Args:
        mailbox: The experiment; asked for the reason of a stop.
        ticket: Its id.
        state: As decided.
    """
    ending, run = state.ending, state.ticket.run
    if state.status is Status.CANCELLED:
        order = mailbox.cancelled()
        reason = order.reason if order else (ending.message if ending else "on request")
        return Stopped(
            f"{ticket} was stopped: {reason}",
            hint=f"the same command, or {command('resume', mailbox)}, goes on from the last "
            "checkpoint",
        )
    said = ending.message if ending is not None and ending.message else state.status.value
    hint = ending.hint if ending is not None else None
    message = f"{ticket}: {said}"
    if ending is not None and ending.ticket != ticket:
        message = f"{ticket} was not begun, because {ending.ticket} did not succeed: {said}"
    if state.status is Status.TIMED_OUT:
        return TimedOut(message, hint=hint)
    if ending is not None and ending.cause in (Cause.INFRASTRUCTURE, Cause.PREEMPTION):
        # The ending's own hint promises a next attempt, and there is none left.
        return WorkerLost(
            f"{message} (attempts are used up)",
            hint=f"{command('logs', mailbox, run)} shows the last lines; the same command tries "
            "anew",
        )
    shows = f"{command('logs', mailbox, run)} shows what it printed"
    return RunFailed(message, hint=f"{hint}; {shows}" if hint else shows)


def stopped(mailbox: Mailbox, reason: str) -> str:
    """A stop on request, in words."""
    return f"{mailbox.experiment} was stopped ({reason}); its results and checkpoints are kept"


def failures(mailbox: Mailbox, states: Mapping[str, TicketState]) -> DrillyardError | None:
    """Every run that failed, as one error: which ticket of it, and why.

    Args:
        mailbox: The experiment.
        states: Of its tickets, in queue order.

    Returns:
        The error of the kind that all failures have, else ``RunFailed``; None without a failure.
    """
    failed = {
        state.ticket.run: state.ending
        for state in reversed(list(states.values()))
        if state.status in (Status.FAILED, Status.TIMED_OUT) and state.ending is not None
    }
    if not failed:
        return None
    runs = sorted({state.ticket.run for state in states.values()})
    lines = [f"  {e.ticket}: {e.message}" for _, e in sorted(failed.items())]
    more = f"\n  and {len(lines) - MOST_LINES} more" if len(lines) > MOST_LINES else ""
    text = (
        f"{len(failed)} of {len(runs)} runs of {mailbox.experiment} have no result\n"
        + "\n".join(lines[:MOST_LINES]) + more
    )  # fmt: skip
    first = min(failed)
    shows = f"{command('logs', mailbox, first)} shows what it said"
    hint = failed[first].hint
    kind: type[DrillyardError] = RunFailed
    if all(e.status is Status.TIMED_OUT for e in failed.values()):
        kind = TimedOut
    elif all(e.cause in (Cause.INFRASTRUCTURE, Cause.PREEMPTION) for e in failed.values()):
        kind = WorkerLost
    return kind(text, hint=f"{hint}; {shows}" if hint else shows)
