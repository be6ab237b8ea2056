"""Several backends in turn: the cheapest with room, elsewhere when it is full or lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Cost, Lease, Order, Trait
from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Kind
from drillyard.driver.six_phases import drive
from drillyard.driver.stages import Stages
from drillyard.errors import NoCapacity, SearchEnded, UserError
from drillyard.findings import Finding, Severity
from drillyard.leases.places import Place, Places
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase, TicketRecord
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.load import Loaded
from drillyard_flows.stopping import end_leases, order_stop
from tests.helpers.patience import PATIENCE_S
from tests.helpers.tiny_backend import ThreadBackend, Worker, good_work, tiny


class Den(ThreadBackend):
    """A free place."""

    kind = "den"


class Cloud(ThreadBackend):
    """A place that costs something, but has no trait for it."""

    kind = "cloud"

    def __init__(self, price: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.price = price


class Full(Den):
    """Half of what it is asked for is there when it says that it is full."""

    def provision(self, order: Order) -> Lease:
        super().provision(order)
        raise NoCapacity("no machine in this zone")


class FullLater(Den):
    """Its machines never come: its search ends while the set-up waits."""

    def provision(self, order: Order) -> Lease:
        lease = super().provision(order)
        self.worker(lease).end.set()
        return lease

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Any:
        from drillyard.backend import Liveness

        return Liveness.PENDING

    def tend(self, lease: Lease, workers: int) -> int:
        raise NoCapacity("no zone has room")


class Broken(Den):
    def check(self, order: Order | None = None) -> list[Finding]:
        return [Finding(Severity.ERROR, "login", "the host does not answer", "turn it on")]


def driver_of(folder: Path, mailbox: Mailbox, *backends: ThreadBackend, **changes: Any) -> Driver:
    loaded = tiny(folder, tracking={"mlflow": None}, seeds=[1], **changes)
    places = Places([Place(b.kind, b, loaded.spec, {"n": n}) for n, b in enumerate(backends)])
    driver = Driver(loaded, mailbox, places, on_line=SAID.append)
    assert driver.open()
    return driver


def held(may_end: threading.Event) -> Callable[[Worker, TicketRecord, int], str]:
    """Work that ends only when it may, so that a second driver finds it unfinished."""

    def work(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        may_end.wait(PATIENCE_S)
        return good_work(worker, ticket, attempt)

    return work


SAID: list[str] = []


@pytest.fixture(autouse=True)
def _quiet():
    SAID.clear()


def history(driver: Driver) -> list[tuple[str, str, bool]]:
    """(backend, why it ended, whether its end is confirmed) of each lease, oldest first."""
    return [
        (e.intent.backend, e.gone.reason, e.gone.confirmed)
        for e in driver.ledger.entries()
        if e.gone is not None
    ]


def test_the_cheapest_place_is_rented_whatever_the_order_of_the_file(folder, mailbox):
    driver = driver_of(folder, mailbox, Cloud(price=3.0), Cloud(price=1.0), Den())
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert history(driver) == [("den", "torn down", True)]


def test_a_full_place_is_passed_over_and_what_was_created_there_is_ended(folder, mailbox):
    driver = driver_of(folder, mailbox, Full(), Cloud())
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert history(driver) == [("den", "no capacity", True), ("cloud", "torn down", True)]
    assert ThreadBackend.alive == {}
    assert any("den is passed over: no machine in this zone" in line for line in SAID)
    intents = {e.intent.backend: e.intent.order for e in driver.ledger.entries()}
    assert intents["den"].settings == {"n": 0} and intents["cloud"].settings == {"n": 1}


def test_a_stage_with_several_places_passes_over_the_full_one(folder, mailbox):
    """``local`` is full here. A stage without a list of its own has the composite's backend."""
    loaded = tiny(folder, tracking={"mlflow": None})
    children: list[dict[str, Any]] = [
        {"name": "first", "workload": "tiny", "backend": ["local", "dask"]},
        {"name": "last", "workload": "tiny", "after": ["first"]},
    ]
    tree = {"name": "whole", "workload": "composite", "children": children, "backend": "dask"}
    loaded.spec = ExperimentSpec.model_validate({**tree, "tracking": {"mlflow": None}})
    kinds = {"local": Full, "dask": Cloud}
    drivers: dict[str, Driver] = {}

    def open_driver(stage: Loaded) -> Driver:
        found = [
            Place(k, kinds[k](), stage.spec.on_place(k), {"at": k}) for k in stage.spec.places
        ]
        box = Mailbox(mailbox.store, stage.spec.name)
        drivers[stage.spec.name] = driver = Driver(stage, box, Places(found))
        return driver

    stages = Stages(
        loaded,
        Mailbox(mailbox.store, "whole"),
        open_driver,
        lambda driver, name: drive(driver, report=False),
        say=SAID.append,
    )
    assert stages.open() == ["first", "last"]
    outcome = stages.run()
    stages.close(outcome.word)
    assert outcome.kind is Kind.SUCCEEDED
    assert history(drivers["whole.first"]) == [
        ("den", "no capacity", True),
        ("cloud", "torn down", True),
    ]
    assert history(drivers["whole.last"]) == [("cloud", "torn down", True)]
    assert [state.backend for state in stages.states()] == ["local, dask", "dask"]


class Late(Den):
    """It says that it has no machine; the machine appears when the work elsewhere has begun."""

    def provision(self, order: Order) -> Lease:
        late.append(order)
        raise NoCapacity("no machine in this zone")


late: list[Order] = []


def appear() -> None:
    """The machines of the places that had none."""
    while late:
        Den().provision(late.pop())


def test_machines_that_appear_after_no_capacity_are_found_and_ended(folder, mailbox):
    """They are of a lease that was written off; its end is confirmed by listing like any other."""

    def work(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        appear()
        return good_work(worker, ticket, attempt)

    driver = driver_of(folder, mailbox, Late(), Cloud(work=work))
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert not late and ThreadBackend.alive == {}
    assert history(driver) == [("den", "no capacity", True), ("cloud", "torn down", True)]


def test_a_search_that_ends_without_room_leaves_no_request_behind(folder, mailbox):
    """After one refused delete, machines booted later with no driver, and were paid."""
    full = FullLater()
    full.left_in_setup = ["it never becomes ready"]
    driver = driver_of(folder, mailbox, full)
    outcome = drive(driver, report=False)
    assert isinstance(outcome.error, NoCapacity) and outcome.kind is Kind.FAILED
    assert ThreadBackend.alive == {}
    assert history(driver) == [("den", "torn down", True)]


def test_machines_of_a_lease_that_was_written_off_are_ended_without_a_driver(
    folder, mailbox, monkeypatch
):
    """`drillyard cancel` looked at open leases alone, and none was open."""
    driver = driver_of(folder, mailbox, Late(), Late())
    with pytest.raises(NoCapacity):
        driver.provision()
    driver.close("killed")
    appear()
    assert len(ThreadBackend.alive) == 2
    opened = Places([Place("den", Den(), None, {"n": n}) for n in range(2)])
    monkeypatch.setattr(Places, "of_leases", lambda _: opened)
    assert len(end_leases(mailbox)) == 2
    assert ThreadBackend.alive == {}
    assert end_leases(mailbox) == []


@pytest.mark.parametrize("mark", [b"", b"{}", b'{"schema_version": 9}'])
def test_an_order_to_stop_that_cannot_be_read_is_decided_by_a_person(folder, mailbox, mark):
    key = mailbox.key("control/cancel.json")

    def work(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        mailbox.store.put(key, mark)
        return good_work(worker, ticket, attempt)

    outcome = drive(driver_of(folder, mailbox, Den(work=work)), report=False)
    assert outcome.kind is Kind.STOPPED and "cannot be read" in str(outcome.error)
    assert ThreadBackend.alive == {}
    order_stop(mailbox, reason="a person", by="me")
    order = mailbox.cancelled()
    assert order is not None and (order.reason, order.drain) == ("a person", False)
    mailbox.store.put(key, mark)
    again = driver_of(folder, mailbox, Den())
    assert mailbox.cancelled() is None
    assert drive(again, report=False).kind is Kind.SUCCEEDED


def test_a_search_that_ends_during_the_set_up_moves_on(folder, mailbox):
    driver = driver_of(folder, mailbox, FullLater(), Cloud())
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert [each[:2] for each in history(driver)] == [
        ("den", "no capacity"),
        ("cloud", "torn down"),
    ]
    assert ThreadBackend.alive == {}


def test_a_place_that_cannot_work_now_is_passed_over_before_anything_is_written_down(
    folder, mailbox
):
    driver = driver_of(folder, mailbox, Broken(), Cloud())
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert [each[0] for each in history(driver)] == ["cloud"]
    assert any("the host does not answer" in line for line in SAID)


def test_a_run_whose_machine_is_lost_continues_elsewhere(folder, mailbox):
    """The free place loses its machine and has no other one; attempt 2 is the cloud's."""

    class Once(Den):
        def provision(self, order: Order) -> Lease:
            if self.provisions:
                raise NoCapacity("its only machine is broken")
            return super().provision(order)

    def dies(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        worker.die()
        return ""

    driver = driver_of(folder, mailbox, Once(dies), Cloud())
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert [each[:2] for each in history(driver)] == [
        ("den", "lost"),
        ("den", "no capacity"),
        ("cloud", "torn down"),
    ]
    assert mailbox.accepted("t0001-s1", Phase.TRAIN).attempt == 2


def test_a_place_that_fills_up_during_the_work_is_left_for_another(folder, mailbox):
    class Shrinking(Den):
        def tend(self, lease: Lease, workers: int) -> int:
            if self.worker(lease).dead:
                raise NoCapacity("its machine was taken away, and there is no other")
            return workers

        def probe(self, lease: Lease, ticket_id: str | None = None) -> Any:
            from drillyard.backend import Liveness

            if ticket_id is None and lease.lease_id in self.alive:
                return Liveness.PENDING  # it still looks for a machine
            return super().probe(lease, ticket_id)

    def dies(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        worker.die()
        return ""

    driver = driver_of(folder, mailbox, Shrinking(dies), Cloud())
    driver._closer._silent_s = 3.0
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert [each[:2] for each in history(driver)] == [
        ("den", "no capacity"),
        ("cloud", "torn down"),
    ]


def test_places_that_are_all_full_end_the_command_with_every_reason(folder, mailbox):
    class FullCloud(Cloud):
        def provision(self, order: Order) -> Lease:
            raise NoCapacity("no quota for n2")

    driver = driver_of(folder, mailbox, Full(), FullCloud())
    outcome = drive(driver, report=False)
    assert isinstance(outcome.error, NoCapacity)
    assert "den: no machine in this zone" in outcome.error.message
    assert "cloud: no quota for n2" in outcome.error.message
    assert ThreadBackend.alive == {}


@pytest.mark.parametrize("when", ["while it is set up", "during the work"])
def test_a_lease_without_machines_is_ended_with_the_search_for_them(folder, mailbox, when):
    """With no other place: at once, and nothing is left that begins later and is paid."""

    class Late(FullLater):
        def probe(self, lease: Lease, ticket_id: str | None = None) -> Any:
            from drillyard.backend import Liveness

            return Liveness.ALIVE

        traits = FullLater.traits | {Trait.JOBS}

    driver = driver_of(folder, mailbox, FullLater() if when.startswith("while") else Late())
    began = time.monotonic()
    outcome = drive(driver, report=False)
    assert isinstance(outcome.error, SearchEnded), outcome
    assert outcome.kind is Kind.FAILED and outcome.error.exit_code == 4
    assert time.monotonic() - began < driver.patience_s / 2, "the search had its time"
    assert ThreadBackend.alive == {}
    assert history(driver) == [("den", "torn down", True)]
    assert mailbox.cancelled() is None, "the same command tries again"


def test_the_next_command_adopts_the_lease_of_its_own_place(folder, mailbox):
    """Two places of one kind: the settings in the lease's record tell whose it is."""
    may_end = threading.Event()
    machines = [Cloud(price=2.0, work=held(may_end)), Cloud(price=1.0, work=held(may_end))]
    first = driver_of(folder, mailbox, *machines)
    first.provision()
    first.close("killed")
    left, right = Cloud(price=2.0), Cloud(price=1.0)
    again = driver_of(folder, mailbox, left, right)
    may_end.set()
    assert drive(again, report=False).kind is Kind.SUCCEEDED
    assert [e.intent.order.settings for e in again.ledger.entries()] == [{"n": 1}]
    assert left.provisions == [] and left.teardowns == 0
    assert right.teardowns > 0


def test_a_lease_of_a_place_that_is_used_no_more_is_ended_by_its_own_backend(
    folder, mailbox, monkeypatch
):
    may_end = threading.Event()
    first = driver_of(folder, mailbox, Den(work=held(may_end)), Cloud(work=held(may_end)))
    first.provision()
    first.close("killed")
    opened: list[tuple[str, Any]] = []

    def open_backend(kind: str, settings: Any = None) -> ThreadBackend:
        opened.append((kind, dict(settings)))
        return Den()

    monkeypatch.setattr("drillyard.leases.places.open_backend", open_backend)
    again = driver_of(folder, mailbox, Cloud())
    may_end.set()
    assert drive(again, report=False).kind is Kind.SUCCEEDED
    assert ("den", {"n": 0}) in opened
    assert ThreadBackend.alive == {}


def test_prices_that_cannot_be_compared_keep_the_order_of_the_file():
    class Euro(Cloud):
        def estimate(self, order: Order) -> Cost:
            return Cost(per_hour=0.1, currency="EUR")

    class Unknown(Cloud):
        def estimate(self, order: Order) -> Cost:
            return Cost(unpriced=["z9"])

    order = Order(lease_id="dy-0123456789", experiment="x", store_url="memory://x")

    def names(*backends: ThreadBackend) -> list[str]:
        places = Places([Place(type(b).__name__, b) for b in backends])
        return [p.name for p in places.in_turn(lambda p: p.backend.estimate(order))]

    assert names(Cloud(), Euro()) == ["Cloud", "Euro"]
    assert names(Unknown(), Cloud(), Den()) == ["Den", "Cloud", "Unknown"]


def test_a_single_backend_that_is_full_is_asked_again_under_the_same_id(folder, mailbox):
    driver = driver_of(folder, mailbox, Full())
    with pytest.raises(NoCapacity):
        driver.provision()
    assert [e.open for e in driver.ledger.entries()] == [True]
    driver.teardown()
    driver.close("done")


def test_a_store_that_only_one_place_can_use_drops_the_other(folder, mailbox):
    class Picky(Den):
        def store_url(self) -> str:
            return "gs://x"

        def prepare_store(self, url: str) -> None:
            raise UserError(f"machines here cannot reach the store {url}")

    driver = driver_of(folder, mailbox, Picky(), Cloud())
    assert drive(driver, report=False).kind is Kind.SUCCEEDED
    assert [each[0] for each in history(driver)] == ["cloud"]
    with pytest.raises(UserError, match="cannot reach the store"):
        driver_of(folder, Mailbox(mailbox.store, "other"), Picky())
