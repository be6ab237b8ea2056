"""The program of a job on Azure: one run, or several on each node."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Lease, Order
from drillyard.errors import StoreUnavailable
from drillyard.mailbox.status import Status
from drillyard_backends.azure import job, stopped_runs
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.multi_node import HelperNodeWorker
from drillyard_backends.azure.settings import AzureConfig
from tests.helpers.worker_world import PlayedWorker, World


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
        ({"DRILLYARD_JOB_WIDTH": "3", "NODE_RANK": "0", "HOSTS": "2"}, 1, 1, job.JobWorker),
        ({"DRILLYARD_JOB_WIDTH": "3", "NODE_RANK": "2", "HOSTS": "2"}, 1, 1, HelperNodeWorker),
    ],
)
def test_a_node_does_as_many_runs_as_it_is_told(monkeypatch, given, spread, slots, worker):
    order = Order(
        lease_id="dy-0123456789",
        experiment="x",
        store_url="memory://x",
        spread=spread,
        hosts=int(given.get("HOSTS", "0")),
    )
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


def test_a_job_waits_for_a_store_that_does_not_answer_at_once(monkeypatch):
    order = Order(lease_id="dy-0123456789", experiment="x", store_url="memory://x")
    answers: list[Any] = [StoreUnavailable("503"), StoreUnavailable("503"), order.to_bytes()]

    class Store:
        def get(self, key: str) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return bytes(answer)

    monkeypatch.setenv(job.STORE, "memory://x")
    monkeypatch.setenv(job.ORDER_KEY, "x/leases/dy-0123456789/order.json")
    monkeypatch.setattr(job, "open_store", lambda url: Store())
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between two attempts
    assert job.read_order() == order
    assert answers == []


def test_the_cancel_of_one_run_leaves_its_neighbours_at_work():
    """Two runs share a node, and a third waits: the cancelled one stops, the others finish."""
    world = World("azure-cancel-one")
    first, second, third = (world.post(seed) for seed in (1, 2, 3))
    config = AzureConfig(
        subscription_id="01234567-89ab-cdef-0123-456789abcdef",
        resource_group="g",
        workspace="lab",
        runs_per_machine=2,
    )
    backend = AzureBackend(**config.model_dump(exclude_unset=True))
    node = PlayedWorker(
        world, slots=2, work_s=20.0, order={"workers": 2}, make=job.NodeWorker, paid=True
    )
    order = node.worker.order
    lease = Lease(lease_id=order.lease_id, backend="azure", order=order, created_at=0.0)
    world.at(5.0, lambda: backend.cancel(lease, f"{first}.train"))
    world.run(200.0)

    def ending(run: str) -> Any:
        return world.mailbox.ending(f"{run}.train", 1)

    assert [ending(run).status for run in (second, third)] == [Status.SUCCEEDED] * 2
    stopped = ending(first)
    assert (stopped.status, stopped.message) == (Status.FAILED, "its run was cancelled")
    assert ending(third).ended_at < ending(second).ended_at + 15  # it took the free place
    assert world.mailbox.ending(f"{first}.train", 2) is None  # this lease leaves it alone
    assert node.ended_at is not None


def test_a_cancelled_run_is_taken_again_once_it_is_pushed_again():
    world = World("azure-cancel-again")
    run = world.post(1)
    node = PlayedWorker(
        world, slots=2, work_s=20.0, order={"workers": 2, "idle_s": 60.0}, make=job.NodeWorker
    )
    order = node.worker.order
    world.at(5.0, lambda: stopped_runs.stop(order, f"{run}.train"))
    world.at(30.0, lambda: stopped_runs.allow(order, f"{run}.train"))
    world.run(200.0)
    assert world.mailbox.ending(f"{run}.train", 2).status is Status.SUCCEEDED


def test_a_cancelled_run_of_a_shared_process_leaves_its_neighbour_at_work():
    world = World("azure-cancel-together")
    first, second = (world.post(seed) for seed in (1, 2))
    node = PlayedWorker(
        world,
        slots=2,
        work_s=20.0,
        order={"workers": 2, "idle_s": 60.0, "together": 2},
        make=job.NodeWorker,
    )
    order = node.worker.order
    world.at(5.0, lambda: stopped_runs.stop(order, f"{first}.train"))
    world.run(200.0)
    assert world.mailbox.ending(f"{second}.train", 1).status is Status.SUCCEEDED
