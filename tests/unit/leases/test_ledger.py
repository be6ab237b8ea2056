"""The ledger: intent first, money added up, nothing forgotten after a crash."""

from __future__ import annotations

import pytest

from drillyard.backend import Cost, Lease, Order
from drillyard.backend.prices import cost, spent
from drillyard.errors import StoreUnavailable
from drillyard.leases.budget import allowance
from drillyard.leases.ledger import Ledger, local_intents
from drillyard.mailbox import Mailbox, open_store
from drillyard.system.safe_names import lease_id
from drillyard.testing.clock import FakeClock
from tests.helpers.specs import small


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(open_store(str(tmp_path / "store")), "exp")


def order(name: str) -> Order:
    return Order(lease_id=name, experiment="exp", store_url="/s", workers=2)


def test_a_lease_from_intent_to_grave(tmp_path, mailbox):
    clock, home = FakeClock(1000.0), tmp_path / "home"
    ledger = Ledger(mailbox, clock, home)
    ordinal, name = ledger.next_lease()
    assert (ordinal, name) == (1, lease_id(mailbox.store.url, "exp", 1))
    ledger.intend(order(name), "gcp", ordinal, Cost(per_hour=7.2))
    assert [i.order.lease_id for i in local_intents(home)] == [name]

    # A crash here: the intent alone is enough to tear down.
    (entry,) = Ledger(mailbox, clock, home).entries()
    assert entry.open
    assert (entry.lease.lease_id, entry.lease.backend) == (name, "gcp")
    assert entry.lease.order.workers == 2

    given = Lease(
        lease_id=name, backend="gcp", order=order(name), provider={"group": "g"}, created_at=1.0
    )
    ledger.rented(given)
    clock.advance(500.0)
    assert ledger.spent() == pytest.approx(1.0)
    ledger.gone(name, "torn down")
    clock.advance(9999.0)
    ledger.gone(name, "again")
    (entry,) = ledger.entries()
    assert (entry.gone.reason, entry.gone.lived_s) == ("torn down", 500.0)
    assert entry.lease.provider == {"group": "g"}
    assert ledger.spent() == pytest.approx(1.0)
    assert list(local_intents(home)) == []
    assert ledger.next_lease()[0] == 2


def test_money_of_all_leases_adds_up(tmp_path, mailbox):
    clock = FakeClock(1000.0)
    ledger = Ledger(mailbox, clock, tmp_path / "home")
    for _ in range(3):
        ordinal, name = ledger.next_lease()
        ledger.intend(order(name), "gcp", ordinal, Cost(per_hour=3.6))
        clock.advance(1000.0)
        ledger.gone(name, "x")
    assert ledger.spent() == pytest.approx(3.0)


def test_nothing_is_rented_that_cannot_be_written_down(tmp_path, mailbox):
    (tmp_path / "home").write_text("a file where a folder should be")
    ledger = Ledger(mailbox, FakeClock(1000.0), tmp_path / "home")
    with pytest.raises(StoreUnavailable, match="cannot write down") as caught:
        ledger.intend(order("dy-0000000000"), "gcp", 1, Cost())
    assert "DRILLYARD_HOME" in str(caught.value.hint)
    assert ledger.entries() == []


def test_a_torn_local_intent_hides_no_other(tmp_path, mailbox):
    ledger = Ledger(mailbox, FakeClock(1000.0), tmp_path / "home")
    ledger.intend(order("dy-0000000001"), "gcp", 1, Cost())
    (tmp_path / "home" / "intents" / "dy-0000000000.json").write_text('{"order": ')
    assert [i.order.lease_id for i in local_intents(tmp_path / "home")] == ["dy-0000000001"]


def test_prices():
    found = cost(0.5, 4, 3.0, prices_of="2026-11-01")
    assert (found.per_hour, found.total, found.prices_of) == (2.0, 6.0, "2026-11-01")
    assert "no limit" in cost(0.5, 4, None).note
    assert spent(7.2, 500.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("hours", "money", "per_hour", "used_s", "used_cost", "left"),
    [
        (None, None, 5.0, 0.0, 0.0, None),
        (1.0, None, 0.0, 600.0, 0.0, 3000.0),
        (None, 10.0, 0.0, 0.0, 0.0, None),  # free: money is no limit
        (None, 10.0, 5.0, 0.0, 5.0, 3600.0),
        (2.0, 10.0, 5.0, 3600.0, 0.0, 3600.0),
        (1.0, 10.0, 5.0, 0.0, 99.0, 0.0),
        (3.0, 10.0, 5.0, 0.0, 5.0, 3600.0),
    ],
)
def test_what_is_left(hours, money, per_hour, used_s, used_cost, left):
    found = allowance(
        max_hours=hours, max_cost=money, per_hour=per_hour, used_s=used_s, used_cost=used_cost
    )
    assert (found[0] if found else None) == left
    if found is not None:
        by_time = hours is not None and hours * 3600.0 - used_s <= found[0]
        assert found[1] == (f"budget.max_hours = {hours:g}" if by_time else "budget.max_cost = 10")


def test_nobody_waits_for_ever():
    from drillyard.leases.budget import longest_s
    from drillyard.mailbox.records import Phase

    def bound(phase: Phase, **more: object) -> float:
        return longest_s(small(**more), phase)

    assert bound(Phase.TRAIN) == bound(Phase.STORE) == 30 * 86400
    assert 3600 < bound(Phase.TRAIN, budget={"max_hours": 1}) < 3 * 3600
    timed = {"steps": 10, "max_time_s": 1000}
    one = bound(Phase.TRAIN, train=timed)
    assert 1000 < one < 86400
    # With two workers the fifth run waits for two others.
    assert bound(Phase.TRAIN, train=timed, seeds=[1, 2, 3, 4, 5]) == 3 * one
