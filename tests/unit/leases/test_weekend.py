"""What machines cost, and that each is ended, when commands die, sleep or change meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from drillyard.backend import Cost, Lease, Liveness, Order
from drillyard.errors import ControlPlaneError, StoreUnavailable, Superseded, TimedOut, UserError
from drillyard.leases.ended_alone import LATE_S
from drillyard.leases.ledger import Ledger, local_intents
from drillyard.leases.reaper import evidence, reap
from drillyard.leases.reaper.reaper import Reaper
from drillyard.leases.spending import spending
from drillyard.registry import names, register
from tests.helpers.paid_backend import Machine, PaidBackend
from tests.helpers.weekend import (
    FILE,
    HOUR_S,
    PER_HOUR,
    at_their_limit,
    billed,
    command,
    died,
    first,
    lived_s,
    no_driver,
    nothing_to_do,
)
from tests.unit.leases.test_other_clocks import Skewed, taken_over

WEEKEND_S = 56 * HOUR_S
LONGEST_S = 2 * HOUR_S + LATE_S


class TwoAccounts(PaidBackend):
    """A cloud with two accounts: each sees only its own machines."""

    kind = "accounts"
    by: ClassVar[dict[str, dict[str, Machine]]] = {}

    def __init__(self, account: str = "a") -> None:
        self.machines = self.by.setdefault(account, {})  # type: ignore[misc]

    def provision(self, order: Order) -> Lease:
        lease = super().provision(order).model_copy(update={"backend": self.kind})
        self.machines[order.lease_id].lease = lease
        return lease

    # Its own, because what opens a backend decorates the methods of its class: other tests change
    # those of PaidBackend.
    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        return super().probe(lease, ticket_id)

    @classmethod
    def up(cls) -> dict[str, int]:
        return {
            account: sum(machine.gone_at is None for machine in machines.values())
            for account, machines in cls.by.items()
        }


if TwoAccounts.kind not in names("backends"):
    register("backends", TwoAccounts.kind, f"{__name__}:TwoAccounts")


@pytest.fixture
def accounts():
    yield TwoAccounts
    TwoAccounts.by.clear()


def written(account: str) -> None:
    """The file names this account."""
    text = FILE.replace("backend: paid", "backend: accounts")
    Path("m.yaml").write_text(f"{text}backends: {{accounts: {{account: {account}}}}}\n")


def test_a_machine_that_is_replaced_is_gone_before_another_one_is_rented(mailbox, clock):
    """Its worker is silent, and the provider says done and deletes nothing."""
    Path("m.yaml").write_text(FILE.replace("max_cost: 100", "max_cost: 12"))
    driver = command(mailbox, clock)
    driver.provision()
    PaidBackend.lose_deletes = 1
    setup = driver.begin_setup()
    setup.step(clock.monotonic())
    clock.advance(1801.0)
    for _ in range(5):
        setup.step(clock.monotonic())
        assert len(PaidBackend.alive()) <= 1
    while PaidBackend.alive():
        clock.advance(60.0)
        at_their_limit()
    driver.teardown()
    assert len(Ledger(mailbox).entries()) == 2
    assert billed() <= Ledger(mailbox).spent() <= 12.0 + PER_HOUR * LATE_S / HOUR_S
    assert billed() <= 12.1


def test_a_machine_in_another_account_is_asked_for_there(mailbox, clock, accounts):
    """The driver was killed, and the file names another account of the same cloud now."""
    written("a")
    command(mailbox, clock, None).provision()
    clock.advance(60.0)
    written("b")
    driver = command(mailbox, clock, None)
    driver.provision()
    assert sum(accounts.up().values()) == 1, "the work goes on there, or that machine was ended"
    clock.advance(60.0)
    driver.teardown()
    assert set(accounts.up().values()) == {0}
    assert first(mailbox).gone is not None
    assert list(local_intents()) == []


def test_a_command_that_sleeps_while_it_ends_a_lease_does_not_count_its_sleep(mailbox, clock):
    PaidBackend.listing_lag_s = 20.0
    driver = command(mailbox, clock)
    driver.provision()
    clock.advance(600.0)
    teardown = driver.begin_teardown()
    wait_s = teardown.step(clock.monotonic())
    assert PaidBackend.alive() == []
    clock.advance(WEEKEND_S)
    while wait_s is not None:
        clock.advance(wait_s)
        wait_s = teardown.step(clock.monotonic())
    assert 600.0 <= lived_s(mailbox) <= LONGEST_S
    command(mailbox, clock).provision()  # max_cost is not used up


def test_a_reaper_that_sleeps_while_it_ends_a_lease_does_not_count_its_sleep(mailbox, clock):
    PaidBackend.listing_lag_s = 20.0
    command(mailbox, clock).provision()
    no_driver(mailbox)
    nothing_to_do(mailbox)
    clock.advance(1300.0)
    reaper = Reaper(["paid"], dry_run=False, grace_s=600.0, clock=clock, home=None, confirm_s=60.0)
    wait_s: float | None = 0.0
    while PaidBackend.alive():
        wait_s = reaper.step(clock.monotonic())
    clock.advance(WEEKEND_S)
    while wait_s is not None:
        clock.advance(wait_s)
        wait_s = reaper.step(clock.monotonic())
    assert 1300.0 <= lived_s(mailbox) <= LONGEST_S


def test_a_lease_that_no_command_has_looked_at_costs_at_most_what_it_costs_up_to_its_limit(
    mailbox, clock
):
    """A study decides with this number whether it may go on, before any lease is looked at."""
    lease = command(mailbox, clock).provision()
    clock.advance(600.0)
    died(lease)
    clock.advance(WEEKEND_S)
    most = pytest.approx(PER_HOUR * LONGEST_S / HOUR_S)
    assert Ledger(mailbox).spent() == most
    assert spending(mailbox).total == most


@pytest.mark.parametrize("on", [None, ["paid"]], ids=["not listed", "listed"])
def test_a_reaper_that_cannot_write_keeps_the_intent_for_the_next_one(
    on, mailbox, clock, monkeypatch
):
    """The store was away for a moment; the ledger would have stayed open for ever."""
    lease = command(mailbox, clock).provision()
    no_driver(mailbox)
    nothing_to_do(mailbox)
    if on is None:
        died(lease)
    clock.advance(3 * HOUR_S)

    def away(url: str) -> Any:
        raise StoreUnavailable("503")

    with monkeypatch.context() as patched:
        patched.setattr(evidence, "open_store", away)
        reap(on, clock=clock)
    assert [intent.order.lease_id for intent in local_intents()] == [lease.lease_id]
    clock.advance(WEEKEND_S)
    reap(None, clock=clock)
    assert first(mailbox).gone is not None
    assert list(local_intents()) == []
    assert lived_s(mailbox) <= LONGEST_S + HOUR_S


@pytest.mark.parametrize("how", ["reap", "the next command", "cancel"])
def test_a_damaged_record_of_a_worker_stops_no_end(how, mailbox, clock):
    lease = command(mailbox, clock).provision()
    clock.advance(600.0)
    died(lease)
    mailbox.store.put("m/workers/w0.json", b'{"worker": ')
    clock.advance(WEEKEND_S)
    if how == "reap":
        no_driver(mailbox)
        nothing_to_do(mailbox)
        reap(None, clock=clock)
    elif how == "cancel":
        command(mailbox, clock).teardown()
    else:
        command(mailbox, clock).provision()
    assert 600.0 <= lived_s(mailbox) <= LONGEST_S


def test_what_a_superseded_driver_created_and_could_not_delete_is_ended_by_the_next_one(
    mailbox, clock, monkeypatch
):
    """It was suspended in its request, the next driver ended the lease, one deletion was lost."""
    driver = command(mailbox, clock)
    real = PaidBackend.provision

    def slow(self: PaidBackend, order: Order) -> Lease:
        taken_over(mailbox, 2)
        Ledger(mailbox).gone(order.lease_id, "torn down")
        PaidBackend.lose_deletes = 1
        return real(self, order)

    with monkeypatch.context() as patched:
        patched.setattr(PaidBackend, "provision", slow)
        with pytest.raises(Superseded):
            driver.provision()
    assert len(PaidBackend.alive()) == 1
    command(mailbox, clock).teardown()
    assert PaidBackend.alive() == []


def test_a_wrong_clock_of_this_machine_ends_nothing_while_the_provider_is_away(
    mailbox, clock, monkeypatch
):
    """The store has a clock, too."""
    command(mailbox, clock).provision()
    clock.advance(600.0)

    def away(self: PaidBackend) -> float:
        raise ControlPlaneError("no answer")

    monkeypatch.setattr(PaidBackend, "now", away)
    reap(["paid"], clock=Skewed(clock, 3 * HOUR_S))
    assert len(PaidBackend.alive()) == 1


@pytest.mark.parametrize(
    ("lower", "limit", "left_s"),
    [
        ("max_hours: 2, max_cost: 6", "budget.max_cost = 6", 1800.0),
        ("max_hours: 0.1, max_cost: 100", "budget.max_hours = 0.1", 360.0),
        ("max_hours: 9, max_cost: 900", "budget.max_hours = 2", 5400.0),
    ],
)
def test_a_budget_that_is_lowered_holds_for_machines_that_are_up(
    lower, limit, left_s, mailbox, clock
):
    """A larger one does not extend them: their own limit was given to the provider."""
    lease = command(mailbox, clock).provision()
    clock.advance(1800.0)
    Path("m.yaml").write_text(FILE.replace("max_hours: 2, max_cost: 100", lower))
    driver = command(mailbox, clock)
    again = driver.provision()
    assert again.lease_id == lease.lease_id
    assert again.order.deadline_of == limit
    clock.advance(left_s - 1.0)
    assert not driver._leases.over(again)
    clock.advance(2.0)
    assert driver._leases.over(again)


def test_a_budget_that_is_used_up_ends_machines_that_are_up(mailbox, clock):
    command(mailbox, clock).provision()
    clock.advance(1800.0)
    Path("m.yaml").write_text(FILE.replace("max_cost: 100", "max_cost: 2"))
    with pytest.raises(TimedOut, match=r"budget.max_cost = 2 is used up"):
        command(mailbox, clock).provision()
    assert PaidBackend.alive() == []


def test_a_sum_over_two_currencies_is_not_limited_but_refused(mailbox, clock, monkeypatch):
    died(command(mailbox, clock).provision())
    clock.advance(600.0)
    real = PaidBackend.estimate

    def elsewhere(self: PaidBackend, order: Order) -> Cost:
        return real(self, order).model_copy(update={"currency": "JPY"})

    monkeypatch.setattr(PaidBackend, "estimate", elsewhere)
    with pytest.raises(UserError, match=r"earlier machines of this experiment cost USD"):
        command(mailbox, clock).provision()
    assert PaidBackend.alive() == []
