"""What the mailbox says about every ticket: the one place where attempts are counted.

A pure function of the records, called by the agent (what may I claim?) and by the driver (what is
decided?) alike, so that the two never disagree about a retry. Rules:

- A ticket with an accepted result has succeeded, whatever its endings say.
- Attempts that ended without a result are counted by cause against ``status.RETRIES``; the first
  cause that is used up decides. ``CANCELLED`` endings use up nothing.
- ``control/reopened.json`` forgives endings, successful ones too (a result that is made again);
  ``control/cancel.json`` keeps anything from being claimed.
- A run that ``control/reopened.json`` calls pruned is PRUNED as soon as nobody works on it.
- A ticket whose predecessor ended without success is over with it, and lives again with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted, Ending, TicketRecord
from drillyard.status import RETRIES, STATUS_OF, Cause, Status

_DONE = (Status.SUCCEEDED, Status.PRUNED)


@dataclass(frozen=True, slots=True)
class TicketState:
    """Where a ticket stands.

    Attributes:
        ticket: What was posted.
        status: PENDING waits for a predecessor, READY can be claimed, PREEMPTED can be claimed
            again after its machine was taken away; ended ones are decided.
        attempt: The newest attempt, or None when nobody ever claimed it.
        claimable: The number of the attempt that a worker may claim now, or None.
        ending: How the newest attempt ended (or, where a predecessor decided, how that ended);
            None while it runs or before the first.
    """

    ticket: TicketRecord
    status: Status
    attempt: int | None = None
    claimable: int | None = None
    ending: Ending | None = None


class _Seen(NamedTuple):
    """All that the state of a ticket depends on, besides records that never change."""

    claimed: Sequence[int]
    ended: Sequence[int]
    forgiven: int
    pruned: bool
    cancelled: bool
    missing: bool
    """A ticket that it waits for is not posted."""
    before: Sequence[TicketState]


@dataclass
class StateCache:
    """Records that never change once written, so that a poll is two listings and two reads.

    What was made of them is kept too: of a study's thousands of tickets hardly one moves between
    two polls, and a state that has not moved is the same object.
    """

    tickets: dict[str, TicketRecord] = field(default_factory=dict)
    endings: dict[tuple[str, int], Ending] = field(default_factory=dict)
    accepted: dict[tuple[str, int, int], Accepted | None] = field(default_factory=dict)
    """(ticket, newest ended attempt, forgiven) -> the accepted result as seen after that."""
    order: list[TicketRecord] = field(default_factory=list)
    """``tickets``, each after those that it waits for; made again when they change."""
    states: dict[str, tuple[_Seen, TicketState]] = field(default_factory=dict)
    """Ticket -> (what was seen of it, what that comes to)."""


def ticket_states(mailbox: Mailbox, cache: StateCache | None = None) -> dict[str, TicketState]:
    """The state of every ticket, in queue order.

    Args:
        mailbox: What to read.
        cache: Kept by the caller between polls; None reads everything anew.

    Returns:
        Ticket id -> state.

    Raises:
        StoreUnavailable: The mailbox cannot be read now; nothing is decided by that.
    """
    cache = cache or StateCache()
    # Claims first: a ticket that is posted between the two listings has no claim yet, while a
    # claim that is seen must find its ticket.
    claims: dict[str, list[int]] = {}
    ended: dict[str, list[int]] = {}
    for ticket, attempt, is_ending in mailbox.claims():
        (ended if is_ending else claims).setdefault(ticket, []).append(attempt)
    _read_tickets(mailbox, cache)
    reopened = mailbox.reopened()
    cancelled = mailbox.cancelled() is not None

    states: dict[str, TicketState] = {}
    for record in cache.order:
        name = record.ticket
        before = [states[t] for t in record.after if t in states]
        seen = _Seen(
            claims.get(name, ()), ended.get(name, ()), reopened.after.get(name, 0),
            record.run in reopened.pruned, cancelled, len(before) < len(record.after), before,
        )  # fmt: skip
        kept = cache.states.get(name)
        if kept is None or kept[0] != seen:
            kept = cache.states[name] = (seen, _look(mailbox, cache, record, seen))
        states[name] = kept[1]
    queue = sorted(states.values(), key=lambda s: (s.ticket.order, s.ticket.ticket))
    return {s.ticket.ticket: s for s in queue}


def _read_tickets(mailbox: Mailbox, cache: StateCache) -> None:
    """Bring the cache's tickets in line with the queue."""
    listed = list(mailbox.ticket_ids())
    gone = cache.tickets.keys() - set(listed)
    new = [ticket for ticket in listed if ticket not in cache.tickets]
    if new or gone:
        cache.order = []  # and stays empty when one of them cannot be read
    for ticket in gone:  # a seed that the user took out before anybody began it
        del cache.tickets[ticket]
        cache.states.pop(ticket, None)
    for ticket in new:
        cache.tickets[ticket] = mailbox.ticket(ticket)
    if not cache.order:
        cache.order = list(_predecessors_first(cache.tickets))


def _look(mailbox: Mailbox, cache: StateCache, record: TicketRecord, seen: _Seen) -> TicketState:
    endings = [_ending(mailbox, cache, record.ticket, n) for n in sorted(seen.ended)]
    return _state(record, seen, endings, _accepted(mailbox, cache, record, endings, seen.forgiven))


def _predecessors_first(tickets: Mapping[str, TicketRecord]) -> Iterable[TicketRecord]:
    """Tickets such that each comes after those that it waits for (a ring is left in its order)."""
    done: dict[str, TicketRecord] = {}
    for root in tickets.values():
        stack = [(root, False)]
        on_path: set[str] = set()
        while stack:
            record, expanded = stack.pop()
            if expanded:
                done.setdefault(record.ticket, record)
            elif record.ticket not in done and record.ticket not in on_path:
                on_path.add(record.ticket)
                stack.append((record, True))
                stack.extend((tickets[t], False) for t in record.after if t in tickets)
    return done.values()


def _ending(mailbox: Mailbox, cache: StateCache, ticket: str, attempt: int) -> Ending:
    key = (ticket, attempt)
    if key not in cache.endings:
        ending = mailbox.ending(ticket, attempt)
        if ending is None:  # listed a moment ago and gone: somebody tidied up by hand
            return Ending(
                ticket=ticket, attempt=attempt, status=Status.FAILED,
                cause=Cause.INFRASTRUCTURE, message="the record of this ending was removed",
                by="attempts", ended_at=0.0,
            )  # fmt: skip
        cache.endings[key] = ending
    return cache.endings[key]


def _accepted(
    mailbox: Mailbox,
    cache: StateCache,
    record: TicketRecord,
    endings: list[Ending],
    forgiven: int,
) -> Accepted | None:
    """The accepted result, looked for only after an ending that does not say so itself.

    A worker may be killed between accepting and saying so; its attempt is then buried, and only
    the accepted record knows that the work is done.
    """
    if not endings or (endings[-1].attempt > forgiven and endings[-1].status in _DONE):
        return None
    key = (record.ticket, endings[-1].attempt, forgiven)
    if key not in cache.accepted:
        cache.accepted[key] = mailbox.accepted(record.run, record.phase)
    return cache.accepted[key]


def _state(
    record: TicketRecord, seen: _Seen, endings: list[Ending], accepted: Accepted | None
) -> TicketState:
    last = max([*seen.claimed, *seen.ended], default=None)
    forgiven = seen.forgiven
    newest = endings[-1] if endings else None
    if accepted is not None and accepted.attempt > forgiven:
        return TicketState(record, accepted.status, accepted.attempt, None, newest)
    for ending in endings:
        # A larger budget or a damaged result opens finished work again: that success is forgiven.
        if ending.status in (Status.SUCCEEDED, Status.PRUNED) and ending.attempt > forgiven:
            return TicketState(record, ending.status, ending.attempt, None, ending)
    if last is not None and (newest is None or newest.attempt < last):
        return TicketState(record, Status.RUNNING, last, None, newest)

    counting = [e for e in endings if e.attempt > forgiven]
    decided = _used_up(counting)
    if decided is not None:
        status = STATUS_OF[decided.cause] if decided.cause else decided.status
        return TicketState(record, status, last, None, decided)
    for state in seen.before:
        if state.status.ended and state.status is not Status.SUCCEEDED:
            return TicketState(record, state.status, last, None, state.ending)
    if seen.pruned:
        return TicketState(record, Status.PRUNED, last, None, newest)
    if seen.cancelled:
        return TicketState(record, Status.CANCELLED, last, None, newest)
    if seen.missing or any(s.status is not Status.SUCCEEDED for s in seen.before):
        return TicketState(record, Status.PENDING, last, None, newest)
    preempted = bool(counting) and counting[-1].cause is Cause.PREEMPTION
    status = Status.PREEMPTED if preempted else Status.READY
    return TicketState(record, status, last, (last or 0) + 1, newest)


def _used_up(endings: list[Ending]) -> Ending | None:
    """The ending that decided the ticket, or None while another attempt may follow."""
    counts: Counter[Cause] = Counter()
    for ending in endings:
        if ending.cause is None:
            return ending
        if ending.cause is Cause.CANCELLED:
            continue
        counts[ending.cause] += 1
        if counts[ending.cause] > RETRIES[ending.cause]:
            return ending
    return None


_WORST_FIRST = (Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.PRUNED, Status.RUNNING,
                Status.PREEMPTED, Status.READY, Status.PENDING, Status.SUCCEEDED)  # fmt: skip


def run_status(states: Mapping[str, TicketState], run: str) -> Status:
    """The state of a run: what its tickets come to together.

    Args:
        states: From ``ticket_states``.
        run: The run's id.

    Returns:
        The first of FAILED, TIMED_OUT, CANCELLED, PRUNED, RUNNING, PREEMPTED, READY, PENDING that
        one of its tickets has; SUCCEEDED when all have; UNKNOWN when it has no ticket.
    """
    return worst([s for s in states.values() if s.ticket.run == run])


def worst(states: Iterable[TicketState]) -> Status:
    """``run_status`` of the tickets of one run."""
    found = {s.status for s in states}
    return next((status for status in _WORST_FIRST if status in found), Status.UNKNOWN)


def by_run(states: Mapping[str, TicketState]) -> dict[str, list[TicketState]]:
    """The tickets of every run, in queue order."""
    found: dict[str, list[TicketState]] = {}
    for state in states.values():
        found.setdefault(state.ticket.run, []).append(state)
    return found
