"""What the six tasks of a flow of one's own get, without a server of Prefect."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.driver.driver import Driver
from drillyard.driver.in_thread import InThread
from drillyard.errors import (
    ControlPlaneError,
    NotFound,
    RunFailed,
    StoreUnavailable,
    UserError,
)
from drillyard.mailbox import Mailbox
from drillyard_flows.own_flow import OwnSession
from drillyard_tasks import common
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Work, good_work, tiny

RUN = "t0001-s1"


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch):
    monkeypatch.setattr("drillyard.driver.six_phases.GRACE_S", 0.0)


@contextmanager
def opened(folder: Path, mailbox: Mailbox, work: Work = good_work) -> Iterator[OwnSession]:
    """A session at work."""
    loaded = tiny(folder, tracking={"mlflow": None}, seeds=[1, 2])
    driver = Driver(loaded, mailbox, ThreadBackend(work), by_request=True)
    driver.open()
    session = OwnSession(driver, print)
    with InThread(session.work, driver, say=print).running():
        try:
            yield session
        finally:
            session.leave()


def result(session: OwnSession, phase: str, run: str = RUN) -> Any:
    """What a task of a phase would get."""
    got: list[Any] = []

    def task() -> None:
        try:
            got.append(session.body(phase, run).join())
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    thread.join(PATIENCE_S / 10)
    assert got, f"the task {phase} of {run} waits forever"
    return got[0]


def repeats(session: OwnSession, phase: str, run: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether Prefect repeats a task that has raised."""
    context = SimpleNamespace(parameters={"session": session, "run": run})
    monkeypatch.setattr(common.TaskRunContext, "get", lambda: context)
    task: Any = SimpleNamespace(name=phase)
    state: Any = None
    return common.not_delivered(task, state, state)


def test_what_follows_a_failed_training_fails_and_does_not_wait(folder, mailbox, monkeypatch):
    def broken(*_: Any) -> str:
        raise ValueError("the reactor exploded")

    with opened(folder, mailbox, broken) as session:
        assert isinstance(result(session, "train"), RunFailed)
        error = result(session, "evaluate")
        assert isinstance(error, RunFailed) and "train did not succeed" in str(error)
        assert not repeats(session, "evaluate", RUN, monkeypatch)


def test_what_is_finished_can_be_requested_in_any_order(folder, mailbox):
    for order in (["train", "evaluate"], ["evaluate", "train"]):
        with opened(folder, mailbox) as session:
            for phase in order:
                assert result(session, phase).attempt == 1


def test_prefect_repeats_no_task_that_was_refused(folder, mailbox, monkeypatch):
    with opened(folder, mailbox) as session:
        assert isinstance(result(session, "evaluate"), UserError)
        assert not repeats(session, "evaluate", RUN, monkeypatch)
        assert isinstance(result(session, "train", "t0001-s9"), NotFound)
        assert session.title("train", "t0001-s9") == "train t0001-s9"
        assert not repeats(session, "train", "t0001-s9", monkeypatch)
        assert repeats(session, "store", RUN, monkeypatch), "Prefect itself failed"
        result(session, "train")
        assert result(session, "evaluate").attempt == 1


def test_prefect_repeats_no_task_once_the_session_has_ended(folder, mailbox, monkeypatch):
    with opened(folder, mailbox) as session:
        session.driver._watcher.fail(ControlPlaneError("the provider is away"))
        until(lambda: session._end)
        assert "the provider is away" in str(result(session, "train"))
        assert not repeats(session, "train", RUN, monkeypatch)


def test_a_task_does_not_wait_for_a_session_that_could_not_begin(folder, mailbox, monkeypatch):
    def away(*_: Any, **more: Any) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr("drillyard.driver.six_phases.Mirrors", away)
    with opened(folder, mailbox) as session:
        assert isinstance(result(session, "provision", ""), StoreUnavailable)
    assert mailbox.driver().outcome, "this driver has ended"
