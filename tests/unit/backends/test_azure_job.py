"""The program of a job on Azure: one run, or several on each node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Order
from drillyard_backends.azure import job


@pytest.mark.parametrize(
    ("given", "spread", "slots", "worker"),
    [
        ({}, 1, 1, job.JobWorker),
        ({"DRILLYARD_JOB_SLOTS": "4"}, 1, 4, job.NodeWorker),
        ({"DRILLYARD_JOB_WIDTH": "2", "NODE_RANK": "1"}, 1, 1, job.NodeWorker),
        (
            {"DRILLYARD_JOB_WIDTH": "2", "NODE_RANK": "1", "DRILLYARD_JOB_SLOTS": "3"},
            1,
            3,
            job.NodeWorker,
        ),
        ({"DRILLYARD_JOB_SLOTS": "4"}, 2, 1, job.JobWorker),
    ],
)
def test_a_node_does_as_many_runs_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], spread: int, slots: int, worker: type
) -> None:
    order = Order(lease_id="dy-0123456789", experiment="x", store_url="memory://x", spread=spread)
    own = {"DRILLYARD_JOB_NAME": "n", "DRILLYARD_JOB_TICKET": "t0001-s1.train", **given}
    for name in (job.SLOTS, job.WIDTH, job.RANK, "DRILLYARD_LEASE", "DRILLYARD_MACHINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    for name in (job.MARK, job.MACHINE):
        monkeypatch.setenv(name, "set")  # by the job, for its children: back after the test
    monkeypatch.setattr(job, "read_order", lambda: order)
    monkeypatch.setattr(job, "log_to", lambda *given: None)
    monkeypatch.setattr(job.signal, "signal", lambda *given: None)
    monkeypatch.setattr(job, "hand", lambda ticket: None)
    monkeypatch.setattr(job, "SocketPusher", lambda end: None)
    started: list[Any] = []

    def run_worker(order: Order, scratch: Path, slots: int, make: Any) -> int:
        started.append((slots, make.func))
        return 0

    monkeypatch.setattr(job, "run_worker", run_worker)
    assert job.main() == 0
    assert started == [(slots, worker)]
