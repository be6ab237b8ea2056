"""A flow run that ends badly ends no machines of another command at work on its experiment."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import DriverLock
from drillyard_flows import hooks, stopping
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.records import driver_of_process

FILE = "schema: 1\nname: cstr-ppo\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\n"


@pytest.fixture
def ended(monkeypatch):
    """Experiments whose machines were ended."""
    found: list[str] = []

    def end(mailbox: Mailbox) -> list[str]:
        found.append(mailbox.experiment)
        return []

    monkeypatch.setattr(stopping, "_end_leases", end)
    return found


@pytest.fixture
def box(tmp_path):
    """Every ticket that was posted has ended, as in a study before its next trial."""
    (tmp_path / "mine.yaml").write_text(FILE)
    return write_experiment(tmp_path / "store")


def failed(box: Mailbox, tmp_path: Path) -> None:
    """The hook of a flow run that failed."""
    flow_run: Any = SimpleNamespace(
        parameters={
            "file": str(tmp_path / "mine.yaml"),
            "store": box.store.url,
            "name": box.experiment,
        },
        expected_start_time=None,
        tags=[],
    )
    none: Any = None
    hooks.tear_down(flow=none, flow_run=flow_run, state=none)


def drives(box: Mailbox, pid: int, **more: Any) -> None:
    """A driver on another machine, which was heard of just now."""
    number = max(box.driver_numbers(), default=0) + 1
    record = driver_of_process(pid, number=number, host="elsewhere", pid_started=1.0, **more)
    box.write(f"driver/{number}.json", record)


def test_a_flow_run_that_was_refused_leaves_the_machines_to_who_drives(
    box, tmp_path, ended, monkeypatch
):
    monkeypatch.setattr(stopping, "SILENT_S", 0.0)
    drives(box, 7)
    failed(box, tmp_path)
    assert ended == []


def test_the_machines_of_a_driver_that_ended_are_ended(box, tmp_path, ended):
    drives(box, 7, ended_at=1.0)
    failed(box, tmp_path)
    assert ended == [box.experiment]


def test_a_flow_run_waits_for_no_driver_of_its_own_process(box, tmp_path, ended):
    """A composite closes its driver after its pages: both would wait for each other."""
    lock = DriverLock(box)
    assert lock.take(["test"]).pid == os.getpid()
    try:
        failed(box, tmp_path)
    finally:
        lock.release("done")
    assert ended == [box.experiment]
