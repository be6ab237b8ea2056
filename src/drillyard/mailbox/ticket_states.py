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
from heapq import heapify, heappop, heappush
from itertools import islice

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted, Ending, Reopened, TicketRecord
from drillyard.mailbox.retries import used_up
from drillyard.mailbox.status import STATUS_OF, Cause, Status
from drillyard.mailbox.store import has_stamps

TRUST = 10
"""Polls in a row that may go without a listing of everything."""
FEW = 60
"""So many claims and endings are looked up one by one where that is cheaper than a listing."""
CLAIMS, QUEUE = "claims/", "queue/"
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
        ending: How the newest attempt that has ended did so (or, where a predecessor decided, how
            that ended); while an attempt runs, this is of the one before it. None: none has ended.
    """

    ticket: TicketRecord
    status: Status
    attempt: int | None = None
    claimable: int | None = None
    ending: Ending | None = None


@dataclass
class StateCache:
    """What a reader that polls remembers.

    Records never change once written, so that a poll costs at most two listings and two reads. Few
    of a study's thousands of tickets change between two polls, and only those are evaluated. A
    state that has not changed is the same object.
    """

    tickets: dict[str, TicketRecord] = field(default_factory=dict)
    ticket_keys: set[str] = field(default_factory=set)
    endings: dict[tuple[str, int], Ending] = field(default_factory=dict)
    accepted: dict[tuple[str, int, int], Accepted | None] = field(default_factory=dict)
    """(ticket, newest ended attempt, forgiven) -> the accepted result as seen after that."""
    order: dict[str, int] = field(default_factory=dict)
    """Ticket -> its number, in an order in which each comes after those that it waits for."""
    following: dict[str, list[str]] = field(default_factory=dict)
    """Ticket -> those in ``order`` that wait for it."""
    live: dict[str, TicketState] = field(default_factory=dict)
    """States whose next claim or ending is expected: what runs or can be claimed."""
    awaited: set[str] = field(default_factory=set)
    """Tickets that are not listed and that others wait for."""
    stamps: dict[str, str | None] = field(default_factory=dict)
    """Folder -> its stamp before it was read last."""
    polls: int = 0
    """Polls since everything was listed."""
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
    # Before the claims: a claim that came before the order is seen with it.
    cancelled = mailbox.cancelled() is not None
    stamps = {folder: mailbox.stamp(folder) for folder in (CLAIMS, QUEUE)}
    before, cache.stamps = cache.stamps, {}  # and stays empty when something cannot be read
    changed = {f for f, stamp in stamps.items() if stamp is None or stamp != before.get(f)}
    # A shared disk may use another clock than this machine, so that the stamp misses a change. NFS
    # may say for a minute that a name is missing (nfs(5), lookupcache). A listing a few polls
    # later finds both, and what was deleted by hand.
    cache.polls += 1
    whole = cache.polls > TRUST or not before
    by_name = _read(mailbox, cache, {CLAIMS, QUEUE} if whole else changed, whole)
    orders = mailbox.reopened(), cancelled
    if orders != cache.said:
        cache.stale.update(cache.tickets)
        cache.said = orders
    stale = bool(cache.stale)
    _judge(mailbox, cache)
    while by_name and stale:
        # What was found may have successors already, for which the stamp does not change again.
        _look_up(mailbox, cache, _expected(cache))
        stale = bool(cache.stale)
        _judge(mailbox, cache)
    cache.polls = 0 if whole else cache.polls
    cache.stamps = stamps
    return cache.queue


def _judge(mailbox: Mailbox, cache: StateCache) -> None:
    """Bring the states in line with the records."""
    due = cache.stale & cache.order.keys()
    due.update(name for moved in cache.moved for name in cache.following.get(moved, ()))
    heap = [(cache.order[name], name) for name in due]
    heapify(heap)
    while heap:
        _, name = heappop(heap)
        state = _look(mailbox, cache, cache.tickets[name])
        if state == cache.states.get(name):
            continue
        cache.moved.add(name)
        cache.states[name] = state
        if state.claimable is not None or state.status is Status.RUNNING:
            cache.live[name] = state
        else:
            cache.live.pop(name, None)
        for after in cache.following.get(name, ()):
            if after not in due and cache.order[after] > cache.order[name]:
                due.add(after)
                heappush(heap, (cache.order[after], after))
    if cache.moved or not cache.queue:
        cache.queue = _queue(cache)
    cache.stale.clear()
    cache.moved.clear()


def _read(mailbox: Mailbox, cache: StateCache, folders: set[str], whole: bool) -> bool:
    """Bring the cache's claims, endings and tickets in line with the mailbox.

    Args:
        mailbox: What to read.
        cache: What is known.
        folders: Those that may have changed.
        whole: List them in any case.

    Returns:
        Whether claims and endings were looked up one by one.
    """
    by_name = False
    # Claims first: a ticket that is posted between the two listings has no claim yet, while a
    # claim that is seen must find its ticket.
    if CLAIMS in folders:
        expected = _expected(cache)
        by_name = not whole and len(expected) <= FEW and has_stamps(mailbox.store)
        if by_name:
            _look_up(mailbox, cache, expected)
        else:
            _read_claims(mailbox, cache)
    if QUEUE in folders:
        _read_tickets(mailbox, cache)
    return by_name


def _expected(cache: StateCache) -> list[tuple[str, int, bool]]:
    """The claims and endings that may come next: ticket, attempt, whether it is an ending."""
    changes = []
    for name, state in cache.live.items():
        if state.claimable is not None:
            changes.append((name, state.claimable, False))
        elif state.status is Status.RUNNING and state.attempt is not None:
            changes.append((name, state.attempt, True))
    return changes


def _look_up(mailbox: Mailbox, cache: StateCache, expected: list[tuple[str, int, bool]]) -> None:
    """Look the expected claims and endings up: in a study, a few of thousands."""
    for ticket, attempt, is_ending in expected:
        for kind in (True,) if is_ending else (False, True):
            key = mailbox.claim_key(ticket, attempt, ended=kind)
            if key not in cache.claim_keys and mailbox.store.stat(key) is None:
                break
            _found(cache, key, ticket, attempt, kind)


def _found(cache: StateCache, key: str, ticket: str, attempt: int, is_ending: bool) -> None:
    """Enter a claim or an ending."""
    if key not in cache.claim_keys:
        cache.claim_keys.add(key)
        insort((cache.ended if is_ending else cache.claimed).setdefault(ticket, []), attempt)
        cache.stale.add(ticket)


def _queue(cache: StateCache) -> dict[str, TicketState]:
    """The states in queue order. Most polls change a few of thousands and add a few at the end."""
    states = cache.states
    queue = {**cache.queue, **{name: states[name] for name in cache.moved & cache.queue.keys()}}
    fresh = cache.moved & states.keys() if queue else states.keys()
    added = sorted((states[name] for name in fresh if name not in queue), key=_place)
    later: list[TicketState] = []
    while added and queue and _place(last := next(reversed(queue.values()))) > _place(added[0]):
        later.append(last)
        del queue[last.ticket.ticket]
    queue.update((state.ticket.ticket, state) for state in sorted([*added, *later], key=_place))
    return queue


def _place(state: TicketState) -> tuple[int, str]:
    return state.ticket.order, state.ticket.ticket


def _read_claims(mailbox: Mailbox, cache: StateCache) -> None:
    """Bring the cache's claims and endings in line with the listing."""
    keys = set(mailbox.claim_keys())
    if not keys >= cache.claim_keys:  # records were deleted by hand
        cache.claimed, cache.ended, cache.claim_keys = {}, {}, set()
        cache.stale.update(cache.tickets)
    for key in keys - cache.claim_keys:
        claim = mailbox.claim_of(key)
        if claim is not None:
            _found(cache, key, *claim)
    cache.claim_keys = keys


def _read_tickets(mailbox: Mailbox, cache: StateCache) -> None:
    """Bring the cache's tickets in line with the queue."""
    keys = set(mailbox.ticket_keys())
    gone = [mailbox.ticket_of(key) for key in cache.ticket_keys - keys]
    new = {key: mailbox.ticket_of(key) for key in sorted(keys - cache.ticket_keys)}
    if gone or not cache.awaited.isdisjoint(new.values()):
        cache.order, cache.following = {}, {}
    if gone:
        cache.queue = {}
    for ticket in gone:  # a seed that the user removed before its run began
        del cache.tickets[ticket]
        cache.states.pop(ticket, None)
        cache.live.pop(ticket, None)
        cache.moved.add(ticket)
    cache.ticket_keys &= keys
    for key, ticket in new.items():
        cache.tickets[ticket] = mailbox.ticket(ticket)
        cache.stale.add(ticket)
        cache.ticket_keys.add(key)
    if len(cache.order) < len(cache.tickets):  # also after a poll that could not read one of them
        # ``order`` has the first ones of ``tickets``, or none.
        added = dict(islice(cache.tickets.items(), len(cache.order), None))
        for record in _predecessors_first(added):
            cache.order[record.ticket] = len(cache.order)
            for before in record.after:
                cache.following.setdefault(before, []).append(record.ticket)
        cache.awaited.update(t for record in added.values() for t in record.after)
        cache.awaited -= cache.tickets.keys()


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
    decided = used_up(counting, record.attempts)
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
    statuses = {s.status for s in states}
    return next((status for status in _WORST_FIRST if status in statuses), Status.UNKNOWN)


def by_run(states: Mapping[str, TicketState]) -> dict[str, list[TicketState]]:
    """The tickets of every run, in queue order."""
    states_of_run: dict[str, list[TicketState]] = {}
    for state in states.values():
        states_of_run.setdefault(state.ticket.run, []).append(state)
    return states_of_run
