"""Single decisions about leases: grace, failures in a row, the order of places, the unknown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.backend import Cost, Lease, Liveness, Order
from drillyard.errors import ConfigError, NoCapacity, StoreUnavailable
from drillyard.leases.ledger import Ledger
from drillyard.leases.lost_attempts import LostAttemptCloser
from drillyard.leases.places import AGAIN_S, CHECK_AGAIN_S, Place, Places
from drillyard.leases.reaper import evidence
from drillyard.leases.reaper.audit import Audit
from drillyard.leases.reaper.verdict import Facts, Verdict, judge
from drillyard.mailbox import Mailbox
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.store_clock import StoreClock
from drillyard.mailbox.ticket_states import ticket_states
from tests.helpers.paid_backend import PaidBackend
from tests.helpers.records import claim_of, failed, tell_worker, ticket_of

TICKET = "t0001-s1.train"


def test_grace_is_over_once_it_has_passed():
    assert judge(Facts(overdue_s=599.9), 600.0).verdict is Verdict.WAITING
    assert judge(Facts(overdue_s=600.0), 600.0).verdict is Verdict.EXPIRED


def test_failures_in_a_row_are_those_since_the_last_success(clock, tmp_path):
    audit = Audit(tmp_path / "audit.jsonl", clock)
    assert audit.failures("a") == 0
    for action in ("failed", "deleting", "deleted", "failed", "deleting", "failed"):
        audit.write(action, "a")
        audit.write("failed", "b")
    assert (audit.failures("a"), audit.failures("b"), audit.failures("c")) == (2, 6, 0)


# -- Places ----------------------------------------------------------------------------------


def places(clock: Any, *names: str) -> Places:
    backend: Any = SimpleNamespace(kind="paid")
    return Places([Place(name, backend) for name in names], clock)


def price(costs: dict[str, float]) -> Any:
    return lambda place: Cost(per_hour=costs[place.name])


def test_places_are_tried_by_price_and_one_without_room_later(clock):
    some = places(clock, "a", "b", "c")
    costs = price({"a": 2.0, "b": 1.0, "c": 2.0})
    names = lambda: [place.name for place in some.in_turn(costs)]  # noqa: E731
    assert names() == ["b", "a", "c"], "equal prices keep their order"
    some.pass_over(some.all[1], "no room")
    some.pass_over(some.all[0], "not reachable", CHECK_AGAIN_S)
    assert names() == ["c"]
    full = some.full()
    assert type(full) is NoCapacity and "  b: no room\n  a: not reachable" in full.message
    clock.advance(CHECK_AGAIN_S)
    assert names() == ["a", "c"]
    clock.advance(AGAIN_S - CHECK_AGAIN_S)
    assert names() == ["b", "a", "c"]


def test_a_single_place_is_asked_again_whether_or_not_it_was_full(clock):
    one = places(clock, "a")
    one.pass_over(one.all[0], "no room")
    assert [place.name for place in one.in_turn(price({"a": 1.0}))] == ["a"]
    assert not one.several and places(clock, "a", "b").several


# -- Lost attempts ---------------------------------------------------------------------------


class Closing:
    """An attempt whose worker has been silent for ten minutes, on a lease that is open."""

    def __init__(self, mailbox: Mailbox, clock: Any, backend: Any) -> None:
        self.mailbox, self.clock = mailbox, clock
        ledger = Ledger(mailbox, clock)
        ordinal, name = ledger.next_lease()
        self.order = Order(
            lease_id=name, experiment="m", store_url=mailbox.store.url, deadline=clock.now() + 9e3
        )
        ledger.intend(self.order, "paid", ordinal, Cost(per_hour=2.0))
        ledger.rented(PaidBackend().provision(self.order))
        mailbox.post(ticket_of())
        tell_worker(mailbox, "w", name, host="elsewhere", written_at=clock.now())
        mailbox.claim(claim_of(TICKET, worker="w", claimed_at=clock.now()))
        self.closer = LostAttemptCloser(mailbox, backend, ledger, "driver", clock)
        self.look()
        clock.advance(600.0)

    def look(self) -> dict[str, str | None]:
        return self.closer.close_lost(ticket_states(self.mailbox))

    def ended(self) -> Any:
        self.look()  # from here on the heartbeat is watched
        self.clock.advance(20.0)
        self.look()
        self.clock.advance(20.0)
        self.look()
        return self.mailbox.ending(TICKET, 1)


class Answers(PaidBackend):
    """A provider that answers as it is told."""

    def __init__(self, answer: Liveness, cause: Cause = Cause.PREEMPTION) -> None:
        super().__init__()
        self.answer, self.cause, self.asked = answer, cause, []

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        self.asked.append((lease.lease_id, ticket_id))
        return self.answer

    def lost_to(self, lease: Lease, ticket_id: str) -> Cause:
        self.asked.append(("lost to", ticket_id))
        return self.cause


def test_a_silent_worker_is_lost_when_its_machine_is_gone_for_the_providers_reason(mailbox, clock):
    backend = Answers(Liveness.GONE)
    closing = Closing(mailbox, clock, backend)
    assert closing.look() == {TICKET: closing.order.lease_id}, "not before it was watched"
    assert closing.closer.doubts == 1
    ending = closing.ended()
    assert (ending.status, ending.cause) == (Status.PREEMPTED, Cause.PREEMPTION)
    assert (closing.order.lease_id, TICKET) in backend.asked
    assert ("lost to", TICKET) in backend.asked
    closing.look()
    assert closing.closer.doubts == 0


@pytest.mark.parametrize("answer", [Liveness.ALIVE, Liveness.PENDING, Liveness.UNKNOWN])
def test_a_silent_worker_is_waited_for_while_its_machine_may_live(mailbox, clock, answer):
    assert Closing(mailbox, clock, Answers(answer)).ended() is None


def test_a_backend_that_cannot_be_opened_here_says_nothing_about_its_machines(mailbox, clock):
    class Unopened(Places):
        def backend_of(self, lease: Lease) -> Any:
            raise ConfigError("is missing", field="backends.paid.key")

    closing = Closing(mailbox, clock, Unopened([Place("paid", Answers(Liveness.GONE))], clock))
    assert closing.ended() is None


# -- What a reaper sees ----------------------------------------------------------------------


def test_a_mailbox_that_cannot_be_read_is_not_a_missing_one(mailbox, clock, monkeypatch):
    closing = Closing(mailbox, clock, Answers(Liveness.ALIVE))
    own = {"order": closing.order, "created_at": clock.now()}
    lease = Lease(lease_id=closing.order.lease_id, backend="paid", **own)

    def away(*_: object) -> Any:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(evidence, "_from_mailbox", away)
    seen = evidence.gather(PaidBackend(), lease, clock)
    assert seen.mailbox is None and not seen.reachable and not seen.facts.readable


def test_a_lease_is_quiet_since_the_last_claim(mailbox, clock):
    closing = Closing(mailbox, clock, Answers(Liveness.ALIVE))
    lease = Lease(
        lease_id=closing.order.lease_id,
        backend="paid",
        order=closing.order,
        created_at=clock.now() - 5000.0,
    )
    seen = evidence.gather(PaidBackend(), lease, clock)
    assert seen.reachable and seen.facts.quiet_s == pytest.approx(600.0)
    clock.advance(100.0)
    mailbox.end(failed(TICKET))
    clock.advance(50.0)
    assert evidence.gather(PaidBackend(), lease, clock).facts.quiet_s == pytest.approx(50.0)


# -- The mailbox -----------------------------------------------------------------------------


def test_an_ending_that_was_removed_by_hand_counts_as_a_lost_attempt(mailbox, monkeypatch):
    mailbox.post(ticket_of())
    mailbox.claim(claim_of(TICKET))
    mailbox.end(failed(TICKET, Cause.USER_ERROR))
    monkeypatch.setattr(Mailbox, "ending", lambda *_: None)
    state = ticket_states(mailbox)[TICKET]
    assert state.claimable == 2, "it may be tried again"


@pytest.mark.parametrize("jump_s", [-500.0, 500.0])
def test_the_stores_clock_is_followed_when_it_jumps(jump_s):
    store, here = SimpleNamespace(now=lambda: 1000.0), SimpleNamespace(monotonic=lambda: 3000.0)
    clock = StoreClock(store, here)  # type: ignore[arg-type]
    assert clock.now() == 1000.0
    store.now = lambda: 1000.1
    assert clock.now() == 1000.0, "stamps are coarse"
    store.now = lambda: 1000.0 + jump_s
    assert clock.now() == 1000.0 + jump_s
