"""A driver that does only what a program requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drillyard.driver.driver import Driver
from drillyard.driver.in_thread import InThread
from drillyard.driver.outcome import Kind, Outcome
from drillyard.driver.six_phases import drive
from drillyard.driver.work_list import WorkList
from drillyard.errors import NotFound, UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.clock import SYSTEM
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Work, Worker, good_work, tiny


@contextmanager
def working(
    folder: Path, mailbox: Mailbox, work: Work = good_work, seeds: tuple[int, ...] = (1, 2)
) -> Iterator[tuple[Driver, list[Outcome]]]:
    """A driver at work, and how its session ended, which is known after the block."""
    loaded = tiny(folder, tracking={"mlflow": None}, seeds=list(seeds))
    driver = Driver(loaded, mailbox, ThreadBackend(work), by_request=True)
    assert driver.open() == []
    outcomes: list[Outcome] = []
    session = InThread(lambda: drive(driver, report=False), driver, say=print)
    with session.running():
        try:
            yield driver, outcomes
        finally:
            driver.release()
    outcomes.append(session.outcome())
    assert ThreadBackend.alive == {}


def test_only_what_is_requested_is_done_and_a_later_driver_does_the_rest(folder, mailbox):
    with working(folder, mailbox) as (driver, outcomes):
        assert list(mailbox.ticket_ids()) == []
        for run in ("t0001-s1", "t0001-s2"):
            driver.request(run, Phase.TRAIN)
        for run in ("t0001-s1", "t0001-s2"):
            assert driver.wait(f"{run}.train", PATIENCE_S).attempt == 1
        assert not driver.over, "more may be requested"
        driver.request("t0001-s2", Phase.EVALUATE)
        driver.wait("t0001-s2.evaluate", PATIENCE_S)
    assert outcomes[0].kind is Kind.SUCCEEDED
    assert set(mailbox.ticket_ids()) == {"t0001-s1.train", "t0001-s2.train", "t0001-s2.evaluate"}

    rest = Driver(tiny(folder, tracking={"mlflow": None}, seeds=[1, 2]), mailbox, ThreadBackend())
    assert {t.ticket for t in rest.open()} == {
        "t0001-s1.evaluate",
        "t0001-s1.store",
        "t0001-s2.store",
    }
    assert drive(rest, report=False).kind is Kind.SUCCEEDED

    done = Driver(
        tiny(folder, tracking={"mlflow": None}, seeds=[1, 2]),
        mailbox,
        ThreadBackend(),
        by_request=True,
    )
    assert done.open() == [] and not done.held and not done.began


def test_what_cannot_be_requested_is_refused_by_name(folder, mailbox):
    with working(folder, mailbox) as (driver, _):
        with pytest.raises(NotFound, match="no run 't0001-s9'") as refused:
            driver.request("t0001-s9", Phase.TRAIN)
        assert refused.value.hint == "one of: t0001-s1, t0001-s2"
        with pytest.raises(UserError, match=r"t0001-s1\.store needs the result of train"):
            driver.request("t0001-s1", Phase.STORE)
        assert list(mailbox.ticket_ids()) == []
        driver.release()
        with pytest.raises(UserError, match="after the teardown"):
            driver.request("t0001-s1", Phase.TRAIN)
    assert list(mailbox.ticket_ids()) == []


def test_an_exception_in_the_program_stops_the_work_and_ends_the_machines(folder, mailbox):
    def until_stopped(worker: Worker, ticket: Any, attempt: int) -> str:
        until(lambda: worker.mailbox.cancelled() is not None)
        worker.end.set()
        return good_work(worker, ticket, attempt)

    with (
        pytest.raises(ValueError, match="the program"),
        working(folder, mailbox, until_stopped) as (driver, _),
    ):
        driver.request("t0001-s1", Phase.TRAIN)
        until(lambda: any(mailbox.claims()))
        raise ValueError("the program")
    assert mailbox.cancelled() is not None
    assert ThreadBackend.alive == {}

    with working(folder, mailbox) as (driver, _):
        driver.request("t0001-s2", Phase.TRAIN)
        driver.wait("t0001-s2.train", PATIENCE_S)
        until(lambda: driver.lease is not None)
        assert set(mailbox.ticket_ids()) == {"t0001-s2.train"}
        driver.request("t0001-s1", Phase.TRAIN)
        assert driver.wait("t0001-s1.train", PATIENCE_S).attempt == 2


def test_a_machine_that_ends_between_two_requests_is_no_loss_and_costs_no_more(
    folder, mailbox, monkeypatch
):
    monkeypatch.setattr("drillyard.driver.watcher.TEND_S", 0.02)
    with working(folder, mailbox, seeds=tuple(range(8))) as (driver, outcomes):
        for seed in range(8):
            driver.request(f"t0001-s{seed}", Phase.TRAIN)
            driver.wait(f"t0001-s{seed}.train", PATIENCE_S)
            lease = until(lambda: driver.lease)
            driver.backend.worker(lease).die()
            until(lambda: driver.lease is None)
            assert not driver.holds_machines
    assert outcomes[0].kind is Kind.SUCCEEDED
    assert len(driver.ledger.entries()) == 8


def test_a_request_that_no_poll_has_seen_is_work_to_do(folder, mailbox):
    with working(folder, mailbox) as (driver, _):
        driver.request("t0001-s1", Phase.TRAIN)
        driver.wait("t0001-s1.train", PATIENCE_S)
    seen = ticket_states(mailbox)
    spec = tiny(folder, tracking={"mlflow": None}, seeds=[1, 2]).spec
    work = WorkList(
        spec,
        mailbox,
        lambda: seen,
        stopped=lambda: False,
        spent=lambda: 0.0,
        say=print,
        must_drive=lambda: None,
        clock=SYSTEM,
        by_request=True,
    )
    work.request("t0001-s1", Phase.TRAIN)
    work.request("t0001-s2", Phase.TRAIN)
    work.release()
    assert not work.over
    seen = ticket_states(mailbox)
    assert not work.over


def test_a_session_without_a_request_does_not_wait_for_its_machines(folder, mailbox, monkeypatch):
    monkeypatch.setattr(Worker, "say", lambda *_: None)
    with working(folder, mailbox) as (driver, outcomes):
        until(lambda: driver.lease is not None)
    assert outcomes[0].kind is Kind.SUCCEEDED


def test_a_failed_phase_is_tried_again_by_the_next_session_and_not_by_the_same_one(
    folder, mailbox
):
    tries: list[int] = []

    def broken(worker: Worker, ticket: Any, attempt: int) -> str:
        tries.append(attempt)
        if attempt == 1:
            raise ValueError("the reactor exploded")
        return good_work(worker, ticket, attempt)

    for more in ([1], [1, 2]):
        with working(folder, mailbox, broken) as (driver, _):
            for _ in range(2):
                driver.request("t0001-s1", Phase.TRAIN)
                until(lambda d=driver: all(s.status.ended for s in d.read().values()))
        assert tries == more
