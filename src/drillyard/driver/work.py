"""The work of a session between set-up and teardown: tickets of runs, and trials."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future

from drillyard.driver.bodies import TRIAL, Bodies, Body
from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError, RunFailed, Stopped, WorkerLost
from drillyard.mailbox.mailbox import ticket_id, trial_id
from drillyard.mailbox.records import PHASES, Accepted, TrialOutcome
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState


class Work:
    """Offers each ticket once the ticket before it in its run has a result, and settles it.

    A training is offered while it waits for a worker. What follows it is offered when a worker has
    taken it, so that a stage does not draw it as running while the worker does something else.

    Args:
        driver: An open driver.
        bodies: Where tickets are offered.
        settle: Where results are verified, as reading files may take long.
        wake: Called when a result is verified, so that the last look may come at once.
    """

    POLL_S = 0.2

    def __init__(
        self,
        driver: Driver,
        bodies: Bodies,
        settle: Executor,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._driver = driver
        self._bodies = bodies
        self._settle = settle
        self._wake = wake
        self._open: dict[str, Body] = {}
        """Ticket -> its body, if it was offered and has not ended."""
        self._open_trials: dict[int, Body] = {}
        """Number -> the body of a trial that was offered and has not ended."""
        self._settling: dict[str, Future[Accepted]] = {}
        self._attempts: dict[str, int] = {}
        """Open ticket -> its attempt that is not known to be lost."""
        self._ended: dict[str, list[str]] = {}
        """Run -> its tickets that have ended, in this order."""
        self._given_up: set[str] = set()
        """Runs whose further tickets are not shown: an earlier one has no result."""
        self._changes = -1
        self._states: dict[str, TicketState] = {}
        """The states at the last look."""
        self._due: dict[str, None] = {}
        """Runs to look at, in order: also one whose last look ended with an error."""
        self._trials = 0
        self._names: dict[str, str] = {}

    def look(self) -> None:
        """Offer new tickets and trials, and end those that have ended."""
        self._collect()
        if self._due or self._driver.changes != self._changes:
            self._changes = self._driver.changes
            self._tickets()
        if self._driver.study is not None:
            self._follow_trials()

    @property
    def over(self) -> bool:
        """True once everything has ended and every result is verified."""
        # Else a next ticket can be offered.
        current = not self._due and self._changes == self._driver.changes
        return self._driver.over and current and not self._open

    def close(self, error: DrillyardError) -> None:
        """End all open bodies with an error."""
        for body in [*self._open.values(), *self._open_trials.values()]:
            if not body.done:
                body.future.set_exception(error)

    # -- tickets ------------------------------------------------------------------------------

    def _tickets(self) -> None:
        before, states = self._states, self._driver.states()
        self._due |= {
            state.ticket.run: None
            for ticket, state in states.items()
            if before.get(ticket) is not state
        }
        self._states = states
        for run in list(self._due):
            if run not in self._given_up:
                tickets = (ticket_id(run, phase) for phase in PHASES)
                self._advance(run, [states[t] for t in tickets if t in states])
            del self._due[run]

    def _advance(self, run: str, own: list[TicketState]) -> None:
        """Offer the first open ticket of a run; settle it if it has ended."""
        ended = self._ended.get(run, [])
        # A program may request them in another order than that of the phases.
        state = next((s for s in own if s.ticket.ticket not in ended), None)
        if state is None:
            return
        ticket, last = state.ticket.ticket, ended[-1] if ended else None
        waits = state.status in (Status.PENDING, Status.READY, Status.PREEMPTED)
        if waits and last is not None and ticket not in self._open:
            return  # what follows a training is shown from when a worker takes it
        if ticket not in self._open:
            body = Body(state.ticket.phase.value, ticket, self._title(state), run=run, before=last)
            self._open[ticket] = body
            # An attempt of an earlier driver that still runs counts as one of this session.
            at_work = state.status is Status.RUNNING
            self._attempts[ticket] = (state.attempt or 0) + (not at_work)
            self._bodies.offer(body)
        self._look_for_lost(state)
        if state.status.ended and ticket not in self._settling:
            settled = self._settle.submit(self._driver.result, state)
            settled.add_done_callback(lambda _: self._wake())
            self._settling[ticket] = settled

    def _look_for_lost(self, state: TicketState) -> None:
        """Tell the body of each attempt that was lost and that another one follows."""
        ticket, newest = state.ticket.ticket, state.attempt or 0
        ended = state.ending is not None and state.ending.attempt == state.attempt
        again = ended and not state.status.ended
        for attempt in range(self._attempts[ticket], newest + again):
            ending = self._driver.mailbox.ending(ticket, attempt)
            why = f": {ending.message}" if ending is not None and ending.message else ""
            cause = ending.cause.value if ending is not None and ending.cause else "unknown"
            text = f"attempt {attempt} of {ticket} was lost ({cause}){why}"
            loss = WorkerLost(f"{text}; attempt {attempt + 1} follows")
            loss.row = {
                "ticket": ticket,
                "attempt": attempt,
                "cause": cause,
                "reason": why.removeprefix(": "),
            }
            self._open[ticket].lose(loss)
            self._attempts[ticket] = attempt + 1

    def _title(self, state: TicketState) -> str:
        run = state.ticket.run
        if run not in self._names:
            self._names[run] = self._driver.mailbox.run(run).name or run
        return f"{state.ticket.phase.value} {self._names[run]}"

    def _collect(self) -> None:
        """End the tickets whose results were verified meanwhile."""
        for ticket, verified in list(self._settling.items()):
            if not verified.done():
                continue
            del self._settling[ticket], self._attempts[ticket]
            body = self._open.pop(ticket)
            error = verified.exception()
            if error is None or self._driver.by_request:
                self._ended.setdefault(body.run, []).append(body.key)
                self._due[body.run] = None  # its next one may have ended already
            else:
                self._given_up.add(body.run)
            if error is None:
                body.future.set_result(verified.result())
            else:
                body.future.set_exception(error)

    # -- trials -------------------------------------------------------------------------------

    def _follow_trials(self) -> None:
        study = self._driver.study
        assert study is not None
        for record in study.book.after(self._trials):
            self._trials += 1
            if record.number not in study.earlier:
                body = Body(TRIAL, trial_id(record.number), record.label)
                self._open_trials[record.number] = body
                self._bodies.offer(body)
        for number in list(self._open_trials):
            outcome = study.outcome(number)
            if outcome is not None:
                _end_trial(self._open_trials.pop(number), outcome)


def _end_trial(body: Body, outcome: TrialOutcome) -> None:
    if outcome.status is Status.CANCELLED:
        body.future.set_exception(Stopped(f"{body.key} was stopped"))
    elif outcome.status in (Status.SUCCEEDED, Status.PRUNED):
        body.future.set_result(outcome)
    else:
        body.future.set_exception(
            RunFailed(f"{body.key}: {outcome.message or outcome.status.value}")
        )
