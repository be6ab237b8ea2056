"""How tickets, studies and sessions ended, as errors and as an outcome."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.driver.going_on import going_on
from drillyard.errors import (
    ControlPlaneError,
    DrillyardError,
    ExperimentFailed,
    InfrastructureError,
    RunFailed,
    SearchEnded,
    Stopped,
    Superseded,
    TeardownUnconfirmed,
    TimedOut,
    UserError,
    WorkerLost,
)
from drillyard.mailbox import Mailbox
from drillyard.mailbox.command_hints import command
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState

if TYPE_CHECKING:
    from drillyard.driver.driver import Driver

MOST_LINES = 20


class Kind(enum.StrEnum):
    """The four ways in which a session ends."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Something is wrong with the experiment, or with what was rented for it."""
    STOPPED = "stopped"
    """Stopped on request; the same command continues."""
    UNDECIDED = "undecided"
    """A store, a provider or Prefect was unreachable. The machines keep working, and the same
    command adopts them."""


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        kind: One of four kinds.
        error: Why, unless it succeeded.
        report: Path of the report; None if it could not be built.
    """

    kind: Kind
    error: DrillyardError | None = None
    report: str | None = None

    @property
    def word(self) -> str:
        """For the driver's record: ``succeeded``, or the name of the error."""
        return self.kind.value if self.error is None else type(self.error).__name__


def outcome_of(driver: Driver, error: DrillyardError | None, report: str | None) -> Outcome:
    """The outcome of a session, from the present records.

    Args:
        driver: The driver of the experiment.
        error: The error outside the runs, if there was one.
        report: Path of the report.
    """
    try:
        found = verdict(driver, error)
    except InfrastructureError as away:
        return Outcome(Kind.UNDECIDED, error or away, report)
    if found is None:
        return Outcome(Kind.SUCCEEDED, report=report)
    if isinstance(found, Stopped):
        return Outcome(Kind.STOPPED, found, report)
    final = ExperimentFailed | UserError | WorkerLost | SearchEnded | TeardownUnconfirmed
    decided = isinstance(found, final)
    return Outcome(Kind.FAILED if decided else Kind.UNDECIDED, found, report)


def verdict(driver: Driver, machinery: DrillyardError | None) -> DrillyardError | None:
    """How an experiment ended, as an error; None if it succeeded.

    Args:
        driver: The driver of the experiment; the mailbox is read again.
        machinery: The error outside the runs, if there was one.

    Raises:
        InfrastructureError: The mailbox cannot be read.
    """
    if isinstance(machinery, TeardownUnconfirmed | Superseded):
        return machinery
    away = isinstance(machinery, InfrastructureError) and not isinstance(machinery, WorkerLost)
    if away and driver.holds_machines:
        return machinery  # whatever the runs say: the same command has to end the lease
    if driver.study is not None:
        return _study_verdict(driver, machinery)
    mailbox = driver.mailbox
    states = driver.read()
    done = all(s.status in (Status.SUCCEEDED, Status.PRUNED) for s in states.values())
    if done and (states or (driver.by_request and machinery is None)):
        return None  # whatever happened before, every result exists
    failed = failures(mailbox, states)
    if failed is not None:
        return failed
    again = (
        f"{command('resume', mailbox)} continues what is not finished, from checkpoints "
        "where there are some"
    )
    order = mailbox.cancelled()
    if order is not None and (machinery is None or isinstance(machinery, Stopped)):
        lines = [stopped(mailbox, order.reason), *going_on(mailbox, states)]
        return Stopped("\n  ".join(lines), hint=again)
    if machinery is not None:
        return machinery
    left = sum(not s.status.ended for s in states.values())
    return ControlPlaneError(
        f"{mailbox.experiment} is not decided: {left} tickets are open",
        hint=f"the machines keep working; {again}",
    )


def _study_verdict(driver: Driver, machinery: DrillyardError | None) -> DrillyardError | None:
    """How a study ended; a trial that failed is not a failure of the study."""
    assert driver.study is not None
    mailbox = driver.mailbox
    again = f"{command('resume', mailbox)} continues"
    judged = driver.study.verdict()
    if judged is not None:
        return judged
    order = mailbox.cancelled()
    if order is not None and (machinery is None or isinstance(machinery, Stopped)):
        lines = [stopped(mailbox, order.reason), *going_on(mailbox, driver.read())]
        return Stopped("\n  ".join(lines), hint=again)
    if driver.study.over:
        return None
    return machinery or ControlPlaneError(
        f"{mailbox.experiment} is not decided: its study has not ended", hint=again
    )


def failure(mailbox: Mailbox, ticket: str, state: TicketState) -> DrillyardError:
    """The error to raise for a ticket that ended without success.

    Args:
        mailbox: The experiment, with the reason of a stop.
        ticket: Its id.
        state: Its final state.
    """
    ending, run = state.ending, state.ticket.run
    if state.status is Status.CANCELLED:
        order = mailbox.cancelled()
        reason = order.reason if order else (ending.message if ending else "on request")
        return Stopped(
            f"{ticket} was stopped: {reason}",
            hint=f"the same command, or {command('resume', mailbox)}, continues from the last "
            "checkpoint",
        )
    said = ending.message if ending is not None and ending.message else state.status.value
    hint = ending.hint if ending is not None else None
    message = f"{ticket}: {said}"
    if ending is not None and ending.ticket != ticket:
        message = f"{ticket} was not started, because {ending.ticket} did not succeed: {said}"
    if state.status is Status.TIMED_OUT:
        return TimedOut(message, hint=hint)
    if ending is not None and ending.cause in (Cause.INFRASTRUCTURE, Cause.PREEMPTION):
        # The ending's own hint mentions a next attempt, and none is left.
        return WorkerLost(
            f"{message} (no attempts are left)",
            hint=f"{command('logs', mailbox, run)} shows the last lines; the same command tries "
            "again",
        )
    shows = f"{command('logs', mailbox, run)} shows what it printed"
    return RunFailed(message, hint=f"{hint}; {shows}" if hint else shows)


def stopped(mailbox: Mailbox, reason: str) -> str:
    """A stop on request, as text."""
    return f"{mailbox.experiment} was stopped ({reason}); its results and checkpoints are kept"


def failures(mailbox: Mailbox, states: Mapping[str, TicketState]) -> DrillyardError | None:
    """All failed runs as one error, with the ticket and the reason of each.

    Args:
        mailbox: The experiment.
        states: States of its tickets, in queue order.

    Returns:
        An error of the class that all failures have, else ``RunFailed``; None without a failure.
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
        + "\n".join(lines[:MOST_LINES])
        + more
    )
    first = min(failed)
    shows = f"{command('logs', mailbox, first)} shows what it printed"
    hint = failed[first].hint
    kind: type[DrillyardError] = RunFailed
    if all(e.status is Status.TIMED_OUT for e in failed.values()):
        kind = TimedOut
    elif all(e.cause in (Cause.INFRASTRUCTURE, Cause.PREEMPTION) for e in failed.values()):
        kind = WorkerLost
    return kind(text, hint=f"{hint}; {shows}" if hint else shows)
