"""The watcher: pauses, patience, and what callers that wait are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.driver.watcher import (
    BOARDS_A_LOOK,
    LONGEST_PAUSE_S,
    POLL_S,
    TEND_S,
    Paced,
    Patience,
    Tender,
    Watcher,
)
from drillyard.errors import (
    Bug,
    ConfigError,
    ControlPlaneError,
    SearchEnded,
    StoreUnavailable,
    Superseded,
    WorkerLost,
)
from drillyard.mailbox import Mailbox
from drillyard.mailbox.status import Cause, Status
from tests.helpers.records import board_of, claim_of, failed, ticket_of

AWAY = StoreUnavailable("the store is away")


def post(mailbox: Mailbox, seed: int = 1) -> str:
    record = ticket_of(f"t0001-s{seed}")
    mailbox.write(f"queue/{record.ticket}.json", record)
    return record.ticket


def end(mailbox: Mailbox, ticket: str) -> None:
    mailbox.claim(claim_of(ticket))
    mailbox.end(failed(ticket, Cause.USER_ERROR, message="boom"))


class Store:
    """A store in memory that can be away, and has a pace."""

    def __init__(self, real: Any, pace_s: float = 0.0) -> None:
        self.real, self.pace_s, self.error = real, pace_s, None

    def __getattr__(self, name: str) -> Any:
        if self.error is not None:
            raise self.error
        return getattr(self.real, name)


# -- Patience --------------------------------------------------------------------------------


def test_what_may_help_is_tried_again_for_so_long_and_not_longer():
    patience = Patience(10.0)
    assert patience.decided(AWAY, 100.0) is None
    assert patience.decided(AWAY, 110.0) is None
    later = ControlPlaneError("the provider is away")
    assert patience.decided(later, 110.1) is later
    patience.renew()
    assert patience.decided(AWAY, 111.0) is None, "a success between them"
    assert patience.decided(AWAY, 121.0) is None
    assert patience.decided(AWAY, 121.5) is AWAY


@pytest.mark.parametrize(
    "error", [WorkerLost("lost"), SearchEnded("no room"), ConfigError("x", field="y")]
)
def test_what_trying_again_does_not_help_is_decided_at_once(error):
    assert Patience(10.0).decided(error, 0.0) is error


def test_an_error_outside_the_tree_is_a_bug():
    decided = Patience(10.0).decided(ValueError("x"), 0.0)
    assert type(decided) is Bug and "ValueError('x')" in decided.message


# -- What callers wait for -------------------------------------------------------------------


def test_a_future_is_resolved_once_its_ticket_has_ended(mailbox):
    ticket, other = post(mailbox), post(mailbox, 2)
    watcher = Watcher(mailbox)
    waiting, never = watcher.future(ticket), watcher.future(other)
    assert watcher.future(ticket) is waiting
    assert watcher.look() is True
    assert not waiting.done()
    assert watcher.look() is False, "nothing has changed"
    end(mailbox, ticket)
    assert watcher.look() is True
    assert waiting.result(0).status is Status.FAILED
    assert not never.done()
    assert watcher.future(ticket).result(0) is watcher.states()[ticket]
    assert watcher.changes == 2


def test_whoever_shows_tickets_is_told_of_each_change_and_of_nothing_else(mailbox):
    ticket = post(mailbox)
    watcher, told = Watcher(mailbox), []
    watcher.on_change = lambda: told.append(watcher.changes)
    watcher.look()
    watcher.look()
    end(mailbox, ticket)
    watcher.look()
    assert told == [1, 2]


def test_the_first_error_ends_all_waiting_now_and_later_and_stays(mailbox):
    ticket, other = post(mailbox), post(mailbox, 2)
    end(mailbox, other)
    watcher = Watcher(mailbox)
    waiting, ended = watcher.future(ticket), watcher.future(other)
    watcher.look()
    watcher.fail(AWAY)
    watcher.fail(Superseded("2"))
    assert watcher.error is AWAY
    assert waiting.exception(0) is AWAY
    assert ended.result(0).status is Status.FAILED, "it was resolved before"
    assert watcher.future("t0001-s9.train").exception(0) is AWAY


# -- Pauses ----------------------------------------------------------------------------------


def test_pauses_grow_without_news_and_are_short_again_after_a_change(mailbox):
    shortest, longest = POLL_S
    watcher = Watcher(mailbox)
    ticket = post(mailbox)
    assert watcher.step(0.0) == shortest
    assert watcher.step(1.0) == pytest.approx(shortest * 1.5)
    assert watcher.step(2.0) == pytest.approx(shortest * 2.25)
    assert watcher.step(3.0) == watcher.step(4.0) == longest
    end(mailbox, ticket)
    assert watcher.step(5.0) == shortest


def test_pauses_double_while_the_store_is_away_up_to_a_limit(mailbox):
    mailbox.store = store = Store(mailbox.store)
    watcher = Watcher(mailbox, patience_s=100.0)
    waiting = watcher.future(post(mailbox))
    watcher.step(0.0)
    store.error = AWAY
    pauses = [watcher.step(float(n)) for n in range(1, 8)]
    assert pauses[:5] == pytest.approx([POLL_S[0] * 2.0**n for n in range(1, 6)])
    assert pauses[-1] == LONGEST_PAUSE_S
    watcher.step(101.0)
    assert watcher.error is None and not waiting.done()
    watcher.step(101.5)
    assert watcher.error is AWAY and waiting.exception(0) is AWAY


def test_a_store_that_answers_again_renews_the_patience(mailbox):
    mailbox.store = store = Store(mailbox.store)
    watcher = Watcher(mailbox, patience_s=10.0)
    for now, error in ((0.0, AWAY), (5.0, None), (9.0, AWAY), (18.0, AWAY)):
        store.error = error
        watcher.step(now)
    assert watcher.error is None
    watcher.step(19.5)
    assert watcher.error is AWAY


def test_no_pause_is_shorter_than_the_pace_of_the_store(mailbox):
    mailbox.store = Store(mailbox.store, pace_s=2.0)
    watcher = Watcher(mailbox)
    post(mailbox)
    assert watcher.step(0.0) == watcher.step(1.0) == 2.0


@pytest.mark.parametrize(
    ("took_s", "pause_s", "expected"),
    [(0.1, 0.4, 0.4), (0.2, 0.4, 2.0), (0.2, 3.0, 3.0), (2.0, 0.4, LONGEST_PAUSE_S)],
)
def test_a_poll_that_takes_long_is_followed_by_a_longer_pause(took_s, pause_s, expected):
    watcher: Any = SimpleNamespace(step=lambda now: pause_s)
    assert Paced(watcher, lambda: 5.0 + took_s).step(5.0) == pytest.approx(expected)
    ended: Any = SimpleNamespace(step=lambda now: None)
    assert Paced(ended, lambda: 9.0).step(5.0) is None


# -- Tending ---------------------------------------------------------------------------------


def test_tending_goes_on_for_as_long_as_trying_may_help(mailbox):
    watcher = Watcher(mailbox, patience_s=10.0)
    errors: list[Exception | None] = [None, AWAY, AWAY, None, AWAY, AWAY]
    seen: list[Any] = []

    def tend(states: dict[str, Any]) -> None:
        seen.append(states)
        if (error := errors.pop(0)) is not None:
            raise error

    tender = Tender(watcher, tend, pace_s=1.0)
    assert [tender.step(float(now)) for now in (0, 1, 9, 12, 13, 22)] == [3.0] * 6
    assert watcher.error is None and seen[0] is watcher.states()
    assert Tender(watcher, tend, pace_s=0.1).step(0.0) == TEND_S
    watcher.fail(AWAY)
    assert tender.step(30.0) is None


def test_a_driver_that_was_superseded_stops_tending_at_once(mailbox):
    watcher, error = Watcher(mailbox), Superseded("driver 2 took over")

    def tend(_: object) -> None:
        raise error

    Tender(watcher, tend, 0.0).step(0.0)
    assert watcher.error is error


# -- Boards ----------------------------------------------------------------------------------


class Boards:
    """A mailbox whose store lists boards without their bytes."""

    def __init__(self, mailbox: Mailbox, running: int, pace_s: float = 0.0) -> None:
        self.store: Any = Store(mailbox.store, pace_s)
        self.real, self.read, self.asked = mailbox, [], []
        self.updated = {f"t0001-s{n}": float(n) for n in range(1, running + 1)}
        self.stamps = iter(range(1000))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def stamp(self, prefix: str) -> str:
        return str(next(self.stamps))

    def boards(self, few: list[str] | None) -> Any:
        self.asked.append(few)
        for run, at in self.updated.items():
            yield run, SimpleNamespace(updated_at=at), None

    def board(self, run: str) -> Any:
        self.read.append(run)
        return board_of(run, written_at=self.updated[run])


def test_a_board_is_read_when_it_was_written_and_only_then(mailbox):
    some = Boards(mailbox, 2)
    watcher = Watcher(some)  # type: ignore[arg-type]
    watcher.look()
    assert some.read == ["t0001-s1", "t0001-s2"]
    watcher.look()
    assert len(some.read) == 2, "they are known"
    some.updated["t0001-s2"] = 9.0
    watcher.look()
    assert some.read[2:] == ["t0001-s2"]
    board = watcher.board("t0001-s2")
    assert board is not None and board.written_at == 9.0
    assert watcher.board("t0001-s7") is None


def test_of_many_boards_those_that_waited_longest_are_read_first(mailbox):
    some = Boards(mailbox, BOARDS_A_LOOK + 10)
    watcher = Watcher(some)  # type: ignore[arg-type]
    watcher.look()
    first = set(some.read)
    assert len(some.read) == BOARDS_A_LOOK
    some.read.clear()
    some.updated = {run: at + 100.0 for run, at in some.updated.items()}
    watcher.look()
    assert len(some.read) == BOARDS_A_LOOK
    assert set(some.read[:10]) == some.updated.keys() - first


def test_a_store_with_a_pace_is_not_asked_for_many_boards_at_each_look(mailbox):
    some, now = Boards(mailbox, 100, pace_s=1.0), [50.0]
    clock: Any = SimpleNamespace(monotonic=lambda: now[0])
    watcher = Watcher(some, clock)  # type: ignore[arg-type]
    for _ in range(4):
        watcher.look()
        now[0] += 1.0
    assert len(some.asked) == 2, "100 boards: 3 s between two listings"
