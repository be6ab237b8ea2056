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

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted, Ending, Reopened, TicketRecord
from drillyard.mailbox.status import RETRIES, STATUS_OF, Cause, Status

TRUST = 10
"""Looks in a row that may do without a listing."""
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


@dataclass
class StateCache:
    """What a reader that looks again and again remembers.

    Records never change once written, so that a look is two listings and two reads; and of a
    study's thousands of tickets hardly one moves between two looks, so that only those are judged.
    A state that has not moved is the same object.
    """

    tickets: dict[str, TicketRecord] = field(default_factory=dict)
    endings: dict[tuple[str, int], Ending] = field(default_factory=dict)
    accepted: dict[tuple[str, int, int], Accepted | None] = field(default_factory=dict)
    """(ticket, newest ended attempt, forgiven) -> the accepted result as seen after that."""
    order: list[TicketRecord] = field(default_factory=list)
    """``tickets``, each after those that it waits for; made again when they change."""
    stamps: dict[str, str | None] = field(default_factory=dict)
    """Folder -> its stamp before it was listed last."""
    trusted: int = 0
    """How often in a row a stamp has spared a listing."""
    claim_keys: set[str] = field(default_factory=set)
    claimed: dict[str, list[int]] = field(default_factory=dict)
    """Ticket -> attempts that have a claim."""
    ended: dict[str, list[int]] = field(default_factory=dict)
    """Ticket -> attempts that have an ending."""
    said: tuple[Reopened, bool] = (Reopened(), False)
    """``control/``: what was reopened, and whether everything is cancelled."""
    states: dict[str, TicketState] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    """Tickets to be judged again. A look that fails leaves them to the next one."""
    queue: dict[str, TicketState] = field(default_factory=dict)
    """What the last look came to; never changed, another one takes its place."""
    moved: set[str] = field(default_factory=set)
    """Tickets whose state is another one, or gone: who waits for them is judged again."""


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
    stamps = {folder: mailbox.stamp(folder) for folder in ("claims/", "queue/")}
    known = all(s is not None and s == cache.stamps.get(f) for f, s in stamps.items())
    # A disk that others share may stamp by another clock than ours, so that a change could be
    # missed: what is not seen by its stamp is seen a few looks later.
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
    if not keys >= cache.claim_keys:  # somebody tidied up by hand
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
    for ticket in gone:  # a seed that the user took out before anybody began it
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
        if ending is None:  # listed a moment ago and gone: somebody tidied up by hand
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
    decided = _used_up(counting)
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
