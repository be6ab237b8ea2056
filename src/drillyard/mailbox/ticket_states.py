"""The state of every ticket: the only place where attempts are counted.

It is a pure function of the records. The worker calls it to find what it may claim, the driver to
find what is decided, so that the two never disagree about a retry. Rules:

- A ticket with an accepted result has succeeded, whatever its endings say.
- Attempts that ended without a result are counted by cause against ``retries.RETRIES``; the first
  cause without retries left decides. ``CANCELLED`` endings are not counted.
- ``control/reopened.json`` forgives endings, also successful ones (to repeat a result);
  ``control/cancel.json`` prevents every claim.
- A run that ``control/reopened.json`` calls pruned is PRUNED as soon as no worker works on it.
- A ticket ends with a predecessor that ended without success, and is open again with it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted, Ending, Reopened, TicketRecord
from drillyard.mailbox.retries import used_up
from drillyard.mailbox.status import STATUS_OF, Cause, Status

TRUST = 10
"""Polls in a row that may go without a listing."""
_DONE = (Status.SUCCEEDED, Status.PRUNED)


@dataclass(frozen=True, slots=True)
class TicketState:
    """The state of a ticket.

    Attributes:
        ticket: What was posted.
        status: PENDING waits for a predecessor, READY can be claimed, PREEMPTED can be claimed
            again after its machine was taken away. States that are ended are final.
        attempt: The newest attempt, or None if the ticket was never claimed.
        claimable: The number of the attempt that a worker may claim now, or None.
        ending: How the newest attempt ended (or, where a predecessor decided, how that ended);
            None while it runs or before the first.
    """

    ticket: TicketRecord
    status: Status
    attempt: int | None = None
    claimable: int | None = None
    ending: Ending | None = None


@dataclass
class StateCache:
    """What a reader that polls remembers.

    Records never change once written, so that a poll costs two listings and two reads. Of the
    thousands of tickets of a study, few change between two polls, and only those are evaluated.
    A state that has not changed is the same object.
    """

    tickets: dict[str, TicketRecord] = field(default_factory=dict)
    endings: dict[tuple[str, int], Ending] = field(default_factory=dict)
    accepted: dict[tuple[str, int, int], Accepted | None] = field(default_factory=dict)
    """(ticket, newest ended attempt, forgiven) -> the accepted result as seen after that."""
    order: list[TicketRecord] = field(default_factory=list)
    """``tickets``, each after those that it waits for; sorted again when they change."""
    stamps: dict[str, str | None] = field(default_factory=dict)
    """Folder -> its stamp before it was listed last."""
    trusted: int = 0
    """How often in a row an unchanged stamp has saved a listing."""
    claim_keys: set[str] = field(default_factory=set)
    claimed: dict[str, list[int]] = field(default_factory=dict)
    """Ticket -> attempts that have a claim."""
    ended: dict[str, list[int]] = field(default_factory=dict)
    """Ticket -> attempts that have an ending."""
    said: tuple[Reopened, bool] = (Reopened(), False)
    """``control/``: what was reopened, and whether everything is cancelled."""
    states: dict[str, TicketState] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    """Tickets to evaluate again. After a failed poll, the next one evaluates them."""
    queue: dict[str, TicketState] = field(default_factory=dict)
    """The result of the last poll; never changed, but replaced."""
    moved: set[str] = field(default_factory=set)
    """Tickets whose state changed or that are gone: tickets after them are evaluated again."""


def ticket_states(mailbox: Mailbox, cache: StateCache | None = None) -> dict[str, TicketState]:
    """The state of every ticket, in queue order.

    Args:
        mailbox: What to read.
        cache: Kept by the caller between polls; None reads everything.

    Returns:
        Ticket id -> state.

    Raises:
        StoreUnavailable: The mailbox cannot be read now. This decides nothing.
    """
    cache = cache or StateCache()
    # Claims first: a ticket that is posted between the two listings has no claim yet, while a
    # claim that is seen must find its ticket.
    stamps = {folder: mailbox.stamp(folder) for folder in ("claims/", "queue/")}
    known = all(s is not None and s == cache.stamps.get(f) for f, s in stamps.items())
    # A shared disk may use another clock than this machine, so that the stamp misses a change.
    # A listing a few polls later finds it.
    cache.trusted = cache.trusted + 1 if known and cache.trusted < TRUST else 0
    if not cache.trusted:
        cache.stamps = {}  # and stays empty when a listing fails
        _read_claims(mailbox, cache)
        _read_tickets(mailbox, cache)
        cache.stamps = stamps
    said = mailbox.reopened(), mailbox.cancelled() is not None
    if said != cache.said:
        cache.stale.update(cache.tickets)
        cache.said = said
    moved = bool(cache.moved)
    for record in cache.order if cache.stale or cache.moved else ():
        name = record.ticket
        if name in cache.stale or not cache.moved.isdisjoint(record.after):
            state = _look(mailbox, cache, record)
            if state != cache.states.get(name):
                moved = True
                cache.moved.add(name)
                cache.states[name] = state
    cache.stale.clear()
    cache.moved.clear()
    if moved or not cache.queue:
        queue = sorted(cache.states.values(), key=lambda s: (s.ticket.order, s.ticket.ticket))
        cache.queue = {s.ticket.ticket: s for s in queue}
    return cache.queue


def _read_claims(mailbox: Mailbox, cache: StateCache) -> None:
    """Bring the cache's claims and endings in line with the listing."""
    keys = set(mailbox.claim_keys())
    if not keys >= cache.claim_keys:  # records were deleted by hand
        cache.claimed, cache.ended, cache.claim_keys = {}, {}, set()
        cache.stale.update(cache.tickets)
    for key in keys - cache.claim_keys:
        found = mailbox.claim_of(key)
        if found is not None:
            ticket, attempt, is_ending = found
            insort((cache.ended if is_ending else cache.claimed).setdefault(ticket, []), attempt)
            cache.stale.add(ticket)
    cache.claim_keys = keys


def _read_tickets(mailbox: Mailbox, cache: StateCache) -> None:
    """Bring the cache's tickets in line with the queue."""
    listed = list(mailbox.ticket_ids())
    gone = cache.tickets.keys() - set(listed)
    new = [ticket for ticket in listed if ticket not in cache.tickets]
    if new or gone:
        cache.order = []  # and stays empty when one of them cannot be read
    for ticket in gone:  # a seed that the user removed before its run began
        del cache.tickets[ticket]
        cache.states.pop(ticket, None)
        cache.moved.add(ticket)
    for ticket in new:
        cache.tickets[ticket] = mailbox.ticket(ticket)
        cache.stale.add(ticket)
    if not cache.order:
        cache.order = list(_predecessors_first(cache.tickets))


def _look(mailbox: Mailbox, cache: StateCache, record: TicketRecord) -> TicketState:
    reopened, cancelled = cache.said
    name, forgiven = record.ticket, reopened.after.get(record.ticket, 0)
    ended = cache.ended.get(name, [])
    endings = [_ending(mailbox, cache, name, attempt) for attempt in ended]
    before = [cache.states[t] for t in record.after if t in cache.states]
    return _state(
        record,
        last=max([*cache.claimed.get(name, []), *ended], default=None),
        endings=endings,
        accepted=_accepted(mailbox, cache, record, endings, forgiven),
        forgiven=forgiven,
        before=before,
        missing=len(before) < len(record.after),
        cancelled=cancelled,
        pruned=record.run in reopened.pruned,
    )


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
        if ending is None:  # listed a moment ago, and deleted by hand since
            return Ending(
                ticket=ticket,
                attempt=attempt,
                status=Status.FAILED,
                cause=Cause.INFRASTRUCTURE,
                message="the record of this ending was removed",
                by="attempts",
                ended_at=0.0,
            )
        cache.endings[key] = ending
    return cache.endings[key]


def _accepted(
    mailbox: Mailbox,
    cache: StateCache,
    record: TicketRecord,
    endings: list[Ending],
    forgiven: int,
) -> Accepted | None:
    """The accepted result, read only after an ending that does not show it.

    A worker may be killed after it accepted a result and before it wrote its ending. Its attempt
    is then closed as lost, and only the accepted record shows that the work is done.
    """
    if not endings or (endings[-1].attempt > forgiven and endings[-1].status in _DONE):
        return None
    key = (record.ticket, endings[-1].attempt, forgiven)
    if key not in cache.accepted:
        cache.accepted[key] = mailbox.accepted(record.run, record.phase)
    return cache.accepted[key]


def _state(
    record: TicketRecord,
    *,
    last: int | None,
    endings: list[Ending],
    accepted: Accepted | None,
    forgiven: int,
    before: list[TicketState],
    missing: bool,
    cancelled: bool,
    pruned: bool,
) -> TicketState:
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
    decided = used_up(counting)
    if decided is not None:
        status = STATUS_OF[decided.cause] if decided.cause else decided.status
        return TicketState(record, status, last, None, decided)
    for state in before:
        if state.status.ended and state.status is not Status.SUCCEEDED:
            return TicketState(record, state.status, last, None, state.ending)
    if pruned:
        return TicketState(record, Status.PRUNED, last, None, newest)
    if cancelled:
        return TicketState(record, Status.CANCELLED, last, None, newest)
    if missing or any(s.status is not Status.SUCCEEDED for s in before):
        return TicketState(record, Status.PENDING, last, None, newest)
    preempted = bool(counting) and counting[-1].cause is Cause.PREEMPTION
    status = Status.PREEMPTED if preempted else Status.READY
    return TicketState(record, status, last, (last or 0) + 1, newest)


_WORST_FIRST = (
    Status.FAILED,
    Status.TIMED_OUT,
    Status.CANCELLED,
    Status.PRUNED,
    Status.RUNNING,
    Status.PREEMPTED,
    Status.READY,
    Status.PENDING,
    Status.SUCCEEDED,
)


def run_status(states: Mapping[str, TicketState], run: str) -> Status:
    """The state of a run, from the states of its tickets.

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
