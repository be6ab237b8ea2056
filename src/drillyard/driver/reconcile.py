"""Reconciles a repeated command with the experiment: opens results again, or refuses.

A plan is carried out under the driver's lock, in an order that a crash may interrupt anywhere: old
results are opened again before the new ``experiment.json`` is written, so that the next command
still sees the difference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from drillyard.driver import reopen
from drillyard.driver.going_on import going_on
from drillyard.errors import UserError
from drillyard.leases.lost_attempts import LostAttemptCloser
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import PHASES, Phase, TicketRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState, ticket_states
from drillyard.runs import submit
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM, Clock

DONE = frozenset({Status.SUCCEEDED, Status.PRUNED})
WATCH_S = 2.0
"""Pause between two looks at workers with old heartbeats, in seconds."""


def reconcile(
    plan: submit.Plan,
    spec: ExperimentSpec,
    mailbox: Mailbox,
    closer: LostAttemptCloser,
    end_leases: Callable[[], None],
    trials: Callable[[], list[submit.Trial]],
    settled: Callable[[], set[int]],
    say: Callable[[str], None],
    must_drive: Callable[[], None],
    clock: Clock = SYSTEM,
) -> list[TicketRecord]:
    """Write a plan, and open the phases that have to be repeated.

    Args:
        plan: From ``submit.plan``, made under the driver's lock.
        spec: The resolved experiment.
        mailbox: The experiment.
        closer: Closes the attempts of dead workers.
        end_leases: Ends all leases of the experiment; called if settings changed, because a living
            worker may have the old ones.
        trials: Returns the trials to post; called after unclaimed tickets were deleted.
        settled: Trials whose failure is final: their endings are not forgiven.
        say: Called with a sentence about what is repeated, and where each training goes on.
        must_drive: Raises once another driver took over; called before each step that overwrites.
        clock: For times in records.

    Returns:
        The experiment's open tickets, in queue order.

    Raises:
        UserError: Settings changed while a worker holds a ticket.
        Superseded: Another driver took over.
    """
    closer.close_lost(ticket_states(mailbox))
    if plan.changes:
        _watch(mailbox, closer, say, clock)
    states = ticket_states(mailbox)
    if plan.changes:
        _refuse_while_working(mailbox, states)
        end_leases()
        if not submit.begun(mailbox):
            submit.unfreeze(mailbox)
    repeated = _to_repeat(mailbox, plan.repeat, states, say)  # may take long: it reads results
    must_drive()
    reopen.repeat(mailbox, repeated)
    submit.write(plan, mailbox)
    posted = trials()
    submit.post(spec, mailbox, posted, must_drive, clock)
    must_drive()
    mailbox.store.delete(mailbox.key("control/cancel.json"))
    states = ticket_states(mailbox)
    stands = {t for t, _, _ in submit.tickets(p for p in posted if p.number in settled())}
    tickets = {ticket for ticket, _, _ in submit.tickets(posted)} - stands
    # What may begin a certain number of times does not begin again because another driver follows.
    over = {t for t in tickets & states.keys() if over_in_vain(s := states[t]) and _may_repeat(s)}
    for line in going_on(mailbox, states):
        say(line)
    must_drive()
    reopen.forgive(mailbox, over)
    left = (s.ticket for t, s in states.items() if t in over or not s.status.ended)
    return [ticket for ticket in left if ticket.ticket in tickets]


def over_in_vain(state: TicketState) -> bool:
    """Whether a ticket ended without a result."""
    return state.status.ended and state.status not in DONE


def _may_repeat(state: TicketState) -> bool:
    return state.ticket.attempts is None


def _watch(
    mailbox: Mailbox, closer: LostAttemptCloser, say: Callable[[str], None], clock: Clock
) -> None:
    """Wait until it is known of each silent worker whether it still works."""
    announced = False
    while closer.doubts:
        if not announced:
            say("waiting to see whether workers with old heartbeats still work")
            announced = True
        clock.wait(threading.Event(), WATCH_S)
        closer.close_lost(ticket_states(mailbox))


def _refuse_while_working(mailbox: Mailbox, states: Mapping[str, TicketState]) -> None:
    busy = sorted({s.ticket.run for s in states.values() if s.status is Status.RUNNING})
    if busy:
        name = mailbox.experiment
        raise UserError(
            f"settings of {name!r} changed while a worker is working on {', '.join(busy)}",
            hint=f"wait until it ends, or stop it first: drillyard cancel {name}",
        )


def _to_repeat(
    mailbox: Mailbox,
    phase: Phase | None,
    states: Mapping[str, TicketState],
    say: Callable[[str], None],
) -> dict[str, Phase]:
    """Run -> first phase to repeat: results that no longer fit, and damaged ones."""
    done: dict[str, list[Phase]] = {}
    for state in states.values():
        # A pruned ticket has no result to check.
        if state.status is Status.SUCCEEDED and _may_repeat(state):
            done.setdefault(state.ticket.run, []).append(state.ticket.phase)
    first = reopen.damaged(mailbox, done)
    for run, broken in first.items():
        say(f"{run}: the result of {broken.value} is damaged and will be repeated")
    for run, phases in done.items():
        if phase is not None and any(PHASES.index(p) >= PHASES.index(phase) for p in phases):
            first[run] = min(phase, first.get(run, phase), key=PHASES.index)
    return first
