"""``drive``: the one order of the phases, whatever shows it, and what decides nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Order
from drillyard.driver.bodies import Bodies
from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Kind, Outcome, outcome_of
from drillyard.driver.six_phases import drive
from drillyard.driver.watcher import SLOW_S
from drillyard.errors import InfrastructureError, NoCapacity, Stopped
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import TicketRecord
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Worker, good_work, tiny

RUN = ["train", "evaluate", "store"]


class Watching:
    """A view that notes what it is shown, and joins it if it is asked to."""

    def __init__(self, joins: bool = True) -> None:
        self.joins = joins
        self.offered: list[str] = []
        self.ended: list[Outcome] = []
        self.results: dict[str, Any] = {}
        self.threads: list[threading.Thread] = []

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        self.threads.append(threading.Thread(target=self._follow, args=(bodies,)))
        self.threads[0].start()

    def _follow(self, bodies: Bodies) -> None:
        for body in bodies.follow():
            self.offered.append(body.key)
            if self.joins:
                self.results[body.key] = body.join()

    def showing(self) -> bool:
        return True

    @contextmanager
    def slots(self, driver: Driver) -> Iterator[None]:
        yield

    def end(self, outcome: Outcome) -> None:
        self.threads[0].join(PATIENCE_S)
        self.ended.append(outcome)


def opened(folder: Path, mailbox: Mailbox, backend: ThreadBackend, **changes: Any) -> Driver:
    driver = Driver(tiny(folder, tracking={"mlflow": None}, **changes), mailbox, backend)
    assert driver.open()
    return driver


def test_phases_are_offered_in_order_and_their_results_are_joined(folder, mailbox):
    view = Watching()
    outcome = drive(opened(folder, mailbox, ThreadBackend(), seeds=[1]), view=view, report=False)
    assert outcome.kind is Kind.SUCCEEDED
    tickets = [f"t0001-s1.{phase}" for phase in RUN]
    assert view.offered == ["provision", "setup", *tickets, "teardown"]
    assert view.results["t0001-s1.store"].run == "t0001-s1"
    assert view.ended == [outcome]
    assert ThreadBackend.alive == {}


@pytest.mark.heavy
@pytest.mark.parametrize("drain", [True, False])
def test_work_that_begins_before_all_workers_are_ready_may_end_after_an_order_to_stop(
    drain, folder, mailbox, monkeypatch
):
    monkeypatch.setattr("drillyard.leases.setup_wait.SetupWait._look", lambda self: None)
    ended_early = []

    def work(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        driver.stop("enough", drain)
        ended_early.append(worker.end.wait(1.0))
        return "made"

    driver = opened(folder, mailbox, ThreadBackend(work), seeds=[1])
    assert drive(driver, report=False).kind is Kind.STOPPED
    assert ended_early == [False]


@pytest.mark.heavy
def test_a_view_that_never_joins_delays_phases_and_prevents_none(folder, mailbox, monkeypatch):
    monkeypatch.setattr("drillyard.driver.six_phases.GRACE_S", 0.2)
    view = Watching(joins=False)
    outcome = drive(opened(folder, mailbox, ThreadBackend()), view=view, report=False)
    assert outcome.kind is Kind.SUCCEEDED
    assert ThreadBackend.alive == {}


@pytest.mark.heavy
def test_a_backend_that_stays_away_ends_undecided_and_leaves_what_an_earlier_driver_rented(
    folder, mailbox
):
    gate = threading.Event()

    def gated(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        gate.wait(PATIENCE_S)
        return good_work(worker, ticket, attempt)

    first = opened(folder, mailbox, ThreadBackend(gated))
    first.provision()
    first.close("killed")

    class Away(ThreadBackend):
        def provision(self, order: Order) -> Any:
            raise InfrastructureError("the provider does not answer")

    outcome = drive(opened(folder, mailbox, Away()), report=False)
    assert outcome.kind is Kind.UNDECIDED
    assert len(ThreadBackend.alive) == 1, "machines go on"
    assert mailbox.cancelled() is None
    again = opened(folder, mailbox, ThreadBackend(gated))
    gate.set()
    assert drive(again, report=False).kind is Kind.SUCCEEDED


def test_what_could_not_be_rented_is_taken_back(folder, mailbox):
    class Full(ThreadBackend):
        def provision(self, order: Order) -> Any:
            super().provision(order)  # half of it is there
            raise NoCapacity("no machine in this zone")

    outcome = drive(opened(folder, mailbox, Full()), report=False)
    assert isinstance(outcome.error, NoCapacity)
    assert ThreadBackend.alive == {}


def test_what_every_result_says_counts_more_than_what_was_seen_on_the_way(folder, mailbox):
    driver = opened(folder, mailbox, ThreadBackend())
    driver.provision()
    until(lambda: driver.decided)
    late = Stopped("stopped before any work began")
    assert outcome_of(driver, late, None).kind is Kind.SUCCEEDED


def test_a_command_whose_lease_is_open_has_to_be_given_again_whatever_the_runs_say(
    folder, mailbox
):
    """Its provider was away: the lease may exist, and nothing else would end it."""
    driver = opened(folder, mailbox, ThreadBackend())
    driver.provision()
    until(lambda: driver.decided)
    away = InfrastructureError("the provider does not answer")
    assert outcome_of(driver, away, None) == Outcome(Kind.UNDECIDED, away)
    driver.teardown()
    assert outcome_of(driver, away, None).kind is Kind.SUCCEEDED


@pytest.mark.heavy
def test_the_heartbeat_goes_on_while_a_look_hangs(folder, mailbox, monkeypatch):
    monkeypatch.setattr("drillyard.driver.heartbeat.BEAT_S", 0.05)
    opened(folder, mailbox, ThreadBackend())
    hangs, goes_on = threading.Event(), threading.Event()
    real = mailbox.claim_keys

    def claim_keys() -> Any:
        hangs.set()
        goes_on.wait(PATIENCE_S)
        return real()

    monkeypatch.setattr(mailbox, "claim_keys", claim_keys)
    assert hangs.wait(PATIENCE_S)
    before = mailbox.drivers()[-1].written_at
    until(lambda: mailbox.drivers()[-1].written_at > before)
    goes_on.set()


def test_the_heartbeat_begins_before_the_tickets_are_posted(folder, mailbox, monkeypatch):
    """With thousands of tickets and a slow store, posting takes longer than a heartbeat may."""
    monkeypatch.setattr("drillyard.driver.heartbeat.BEAT_S", 0.05)
    beats: list[float] = []
    real = mailbox.post

    def post(ticket: TicketRecord) -> bool:
        if not beats:
            beats.append(mailbox.drivers()[-1].written_at)
            until(lambda: mailbox.drivers()[-1].written_at > beats[0])
        return real(ticket)

    monkeypatch.setattr(mailbox, "post", post)
    driver = opened(folder, mailbox, ThreadBackend())
    driver.close("done")
    assert beats


def test_boards_of_a_slow_store_are_read_side_by_side(folder, mailbox, monkeypatch):
    watcher = Driver(tiny(folder), mailbox, ThreadBackend())._watcher
    together = threading.Barrier(4)
    # Each answer comes when four are asked for at the same time.
    monkeypatch.setattr(mailbox, "board", lambda run: (together.wait(PATIENCE_S), None)[1])
    watcher._board_s = SLOW_S
    assert watcher._side_by_side(["a", "b", "c", "d"]) == [None] * 4


def test_a_slow_look_does_not_put_off_the_next_one_for_long():
    from drillyard.driver.watcher import LONGEST_PAUSE_S, Paced

    class Slow:
        def step(self, now: float) -> float:
            return 0.15

    assert Paced(Slow(), lambda: 103.2).step(100.0) == LONGEST_PAUSE_S  # type: ignore[arg-type]
    assert Paced(Slow(), lambda: 100.05).step(100.0) == 0.15  # type: ignore[arg-type]
