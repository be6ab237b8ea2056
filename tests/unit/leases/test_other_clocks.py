"""Leases of drivers and workers whose machines show another time than the store."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Cost, Lease, Liveness, Order
from drillyard.driver.driver import Driver
from drillyard.errors import StoreUnavailable, Superseded, TimedOut
from drillyard.leases.ledger import Intent, Ledger, local_intents
from drillyard.mailbox import Mailbox, ObjectInfo
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, ExperimentRecord
from drillyard.runs import submit
from drillyard.spec.load import load
from drillyard.testing.clock import FakeClock
from drillyard.worker.worker import Worker
from tests.helpers.paid_backend import PaidBackend
from tests.helpers.records import driver_of_process, failed
from tests.helpers.weekend import FILE
from tests.unit.leases.test_reaping import reaped

HOUR_S = 3600.0


class Skewed:
    """The clock of a machine that is ahead or behind."""

    def __init__(self, true: FakeClock, ahead_s: float) -> None:
        self.true = true
        self.ahead_s = ahead_s

    def now(self) -> float:
        return self.true.now() + self.ahead_s

    def monotonic(self) -> float:
        return self.true.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return self.true.wait(event, timeout_s)


@pytest.fixture
def true(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    clock = FakeClock()
    PaidBackend.reset(clock)
    return clock


@pytest.fixture
def mailbox(true, tmp_path):
    (tmp_path / "m.yaml").write_text(FILE)
    found = Mailbox(MemoryStore("memory://other-clocks", true), "m")
    record = ExperimentRecord(name="m", spec={}, identity="x", created_at=true.now())
    found.write("experiment.json", record)
    yield found
    MemoryStore.forget("memory://other-clocks")


def command(mailbox: Mailbox, clock: Skewed) -> Driver:
    """The command on a machine with this clock; its driver is the newest."""
    driver = Driver(load(Path("m.yaml")), mailbox, PaidBackend(), clock=clock)
    driver._lock.take(["drillyard", "run", "m.yaml"])
    driver._wanted.trials()
    return driver


def taken_over(mailbox: Mailbox, number: int) -> None:
    """Another driver has begun."""
    record = driver_of_process(number=number, host="other", token="x")
    assert mailbox.create(f"driver/{number}.json", record)


@pytest.mark.parametrize("ahead_s", [-HOUR_S, HOUR_S])
def test_a_lease_ends_and_costs_by_the_stores_time(ahead_s, mailbox, true):
    """The driver's clock is an hour off, jumps back, and the next driver has another one."""
    began = true.now()
    clock = Skewed(true, ahead_s)
    lease = command(mailbox, clock).provision()
    assert lease.order.deadline == pytest.approx(began + 2 * HOUR_S, abs=1.0)
    true.advance(HOUR_S)
    clock.ahead_s = 0.0
    mailbox.store.delete("m/driver/1.json")
    other = command(mailbox, Skewed(true, -ahead_s))
    assert other.provision().lease_id == lease.lease_id
    hour = PaidBackend.price * lease.order.workers
    assert other.ledger.spent() == pytest.approx(hour)
    other.teardown()
    (entry,) = Ledger(mailbox).entries()
    assert entry.gone.lived_s == pytest.approx(HOUR_S, abs=1.0)
    assert entry.gone.cost == pytest.approx(hour, rel=1e-3)


@pytest.mark.parametrize("lost", [False, True])
def test_work_that_began_is_in_the_message_about_the_limit(lost, mailbox, true):
    """It began after the watcher's last look, and may wait for another attempt since."""
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    submit.post(driver.spec, mailbox, driver._wanted.trials(), driver._lock.must_drive, true)
    seen = driver.read()
    ticket = next(name for name in seen if name.endswith(".train"))
    claim = Claim(ticket=ticket, attempt=1, worker="w", token="t", claimed_at=true.now())
    assert mailbox.claim(claim)
    if lost:
        ending = failed(ticket, by="x", ended_at=true.now())
        assert mailbox.create(f"claims/{ticket}.1.ended.json", ending)
    driver._keeper.set_up = True
    true.advance(2 * HOUR_S)
    PaidBackend().teardown(lease)
    with pytest.raises(TimedOut, match="max_hours = 2 ended the lease before the work was done"):
        driver._keeper.tend(seen)


@pytest.mark.parametrize("ahead_s", [-HOUR_S, HOUR_S])
def test_a_worker_leaves_when_the_stores_time_is_over(ahead_s, mailbox, true, tmp_path):
    order = Order(
        lease_id="dy-0123456789",
        experiment="m",
        store_url=mailbox.store.url,
        deadline=true.now() + 600.0,
    )
    worker = Worker(order, tmp_path, 1, Skewed(true, ahead_s), store=mailbox.store)
    try:
        assert not worker._over
        true.advance(599.0)
        assert not worker._over
        true.advance(2.0)
        assert worker._over
    finally:
        worker.close()


def test_a_reaper_with_a_fast_clock_lets_a_new_intent_alone(mailbox, true):
    """Its machine may be on its way."""
    ledger = Ledger(mailbox)
    ordinal, name = ledger.next_lease()
    order = Order(lease_id=name, experiment="m", store_url=mailbox.store.url)
    ledger.intend(order, "paid", ordinal, Cost())
    assert reaped(Skewed(true, 10 * HOUR_S)).settled == []
    assert ledger.entries()[0].open


def test_a_set_up_longer_than_the_lease_ends_as_timed_out(mailbox, true):
    driver = command(mailbox, Skewed(true, 0.0))
    driver.provision()
    setup = driver.begin_setup()
    assert setup.step(driver.clock.monotonic()) is not None
    true.advance(2 * HOUR_S)
    with pytest.raises(
        TimedOut, match="max_hours = 2 ended the lease before any work had"
    ) as error:
        setup.step(driver.clock.monotonic())
    # Its machines may have come, and started for too long.
    assert "the limit, which includes the time in which machines start" in str(error.value.hint)


def test_a_superseded_driver_rents_nothing(mailbox, true, monkeypatch):
    """It is suspended between its last look at other drivers and the intent."""
    estimate = PaidBackend.estimate

    def slow(self: PaidBackend, order: Order) -> Cost:
        taken_over(mailbox, 2)
        return estimate(self, order)

    driver = command(mailbox, Skewed(true, 0.0))
    monkeypatch.setattr(PaidBackend, "estimate", slow)
    with pytest.raises(Superseded, match="driver 2 took over"):
        driver.provision()
    assert PaidBackend.calls == []
    assert Ledger(mailbox).entries() == []


@pytest.mark.parametrize("over", [False, True])
def test_what_a_superseded_driver_has_rented_late_is_given_back(over, mailbox, true, monkeypatch):
    """It is suspended in its request for machines. The other one may use them, or is done."""
    provision = PaidBackend.provision

    def slow(self: PaidBackend, order: Order) -> Lease:
        taken_over(mailbox, 2)
        if over:
            Ledger(mailbox).gone(order.lease_id, "torn down")
        return provision(self, order)

    driver = command(mailbox, Skewed(true, 0.0))
    monkeypatch.setattr(PaidBackend, "provision", slow)
    with pytest.raises(Superseded):
        driver.provision()
    (entry,) = Ledger(mailbox).entries()
    assert PaidBackend.alive() == ([] if over else [entry.lease.lease_id])


def test_a_driver_that_wakes_superseded_after_its_intent_rents_nothing(mailbox, true, monkeypatch):
    """The other driver has ended the lease meanwhile: machines would cost money for nothing."""
    intend = Ledger.intend

    def slow(self: Ledger, order: Order, *rest: Any) -> Intent:
        written = intend(self, order, *rest)
        taken_over(mailbox, 2)
        Ledger(mailbox).gone(order.lease_id, "torn down")
        return written

    driver = command(mailbox, Skewed(true, 0.0))
    monkeypatch.setattr(Ledger, "intend", slow)
    with pytest.raises(Superseded, match="driver 2 took over"):
        driver.provision()
    assert PaidBackend.calls == []


@pytest.mark.parametrize("where", ["before the request", "in the request"])
def test_a_lease_that_was_ended_meanwhile_is_not_used(where, mailbox, true, monkeypatch):
    """By ``drillyard cancel``, which is not a driver: the ledger counts none of its machines."""
    provision, intend = PaidBackend.provision, Ledger.intend

    def end(order: Order) -> None:
        if order.lease_id == first:
            Ledger(mailbox).gone(order.lease_id, "torn down")

    def slow_intent(self: Ledger, order: Order, *rest: Any) -> Intent:
        written = intend(self, order, *rest)
        if where == "before the request":
            end(order)
        return written

    def slow(self: PaidBackend, order: Order) -> Lease:
        if where == "in the request":
            end(order)
        return provision(self, order)

    driver = command(mailbox, Skewed(true, 0.0))
    _, first = driver.ledger.next_lease()
    monkeypatch.setattr(Ledger, "intend", slow_intent)
    monkeypatch.setattr(PaidBackend, "provision", slow)
    with pytest.raises(StoreUnavailable, match="was ended by another command"):
        driver.provision()
    assert PaidBackend.alive() == []
    second = driver.provision()
    assert second.lease_id != first
    assert PaidBackend.alive() == [second.lease_id]
    assert [entry.open for entry in Ledger(mailbox).entries()] == [False, True]


def test_a_lease_that_was_ended_while_it_is_adopted_is_not_used(mailbox, true, monkeypatch):
    lease = command(mailbox, Skewed(true, 0.0)).provision()
    probe = PaidBackend.probe

    def slow(self: PaidBackend, *asked: Any) -> Liveness:
        found = probe(self, *asked)
        if Ledger(mailbox).entries()[0].open:
            self.teardown(lease)
            Ledger(mailbox).gone(lease.lease_id, "torn down")
        return found

    monkeypatch.setattr("drillyard.mailbox.driver_lock.living", lambda *_: False)
    second = command(mailbox, Skewed(true, 0.0))
    monkeypatch.setattr(PaidBackend, "probe", slow)
    with pytest.raises(StoreUnavailable, match="was ended by another command"):
        second.provision()
    assert PaidBackend.alive() == []


def test_a_superseded_driver_ends_no_lease_in_the_ledger(mailbox, true):
    driver = command(mailbox, Skewed(true, 0.0))
    lease = driver.provision()
    taken_over(mailbox, 2)
    with pytest.raises(Superseded):
        driver.ledger.gone(lease.lease_id, "torn down")
    assert Ledger(mailbox).entries()[0].open
    assert [intent.order.lease_id for intent in local_intents()] == [lease.lease_id]


def test_an_intent_is_never_written_over(mailbox, true):
    """Not even by a driver that is suspended between the last check and the write."""
    late, first = Ledger(mailbox), Ledger(mailbox)
    ordinal, name = late.next_lease()
    order = Order(lease_id=name, experiment="m", store_url=mailbox.store.url)
    intent = first.intend(order, "paid", ordinal, Cost(per_hour=1.0))
    true.advance(HOUR_S)
    first.gone(name, "torn down")
    with pytest.raises(StoreUnavailable, match="by another driver"):
        late.intend(order, "paid", ordinal, Cost(per_hour=2.0))
    (entry,) = first.entries()
    assert entry.intent == intent and entry.gone is not None
    assert entry.gone.lived_s == pytest.approx(HOUR_S)


class WholeSeconds(MemoryStore):
    """Stamps objects in whole seconds, as Azure and SFTP do."""

    def now(self) -> float:
        return float(int(super().now()))

    def list(self, prefix: str):  # type: ignore[no-untyped-def]
        for info in super().list(prefix):
            yield ObjectInfo(info.key, info.size, float(int(info.updated_at)))


def test_a_record_written_twice_in_one_second_is_read_again(true):
    mailbox = Mailbox(WholeSeconds("memory://whole-seconds", true), "m")
    ledger = Ledger(mailbox)
    order = Order(lease_id="dy-0123456789", experiment="m", store_url=mailbox.store.url)
    ledger.intend(order, "paid", 1, Cost())
    for group in ("one", "two"):
        lease = Lease(
            lease_id=order.lease_id,
            backend="paid",
            order=order,
            provider={"group": group},
            created_at=1.0,
        )
        ledger.rented(lease)
        true.advance(0.1)
        assert ledger.entries()[0].lease.provider == {"group": group}
    MemoryStore.forget("memory://whole-seconds")
