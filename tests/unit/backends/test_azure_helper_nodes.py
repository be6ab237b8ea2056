"""The nodes of a job that is one run: those beside the first one end with it."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from drillyard.mailbox.driver_lock import MACHINE
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, WorkerRecord
from drillyard_backends.azure import multi_node
from drillyard_backends.azure.jobs import is_on
from drillyard_backends.azure.multi_node import HelperNodeWorker, RayNodeWorker
from tests.helpers.worker_world import LEASE, PlayedWorker, World

FIRST, SECOND = "dy-0123456789-t0001-s1-train-1", "dy-0123456789-t0001-s1-train-2"


class NoRay:
    """Stands for the Ray node of a helper."""

    def keep(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Node:
    """The second node of the second job; the first job's first node has the training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[HelperNodeWorker]) -> None:
        monkeypatch.setattr(RayNodeWorker, "_node", NoRay())
        monkeypatch.setenv(MACHINE, f"{SECOND}-1")
        self.world = World(f"azure-helper-{kind.__name__}")
        run = self.world.post(1)
        self.ticket = f"{run}.train"
        claim = Claim(ticket=self.ticket, attempt=1, worker="w1", token="t", claimed_at=0.0)
        self.world.mailbox.claim(claim)
        self.first_node("w1", "ready", FIRST)
        hosts = 1 if kind is HelperNodeWorker else 0
        self._make: Any = functools.partial(kind, ticket=self.ticket, paid=True)
        self._order = {"hosts": hosts, "spread": 2 - hosts}
        self.helper: PlayedWorker | None = None

    def start(self) -> PlayedWorker:
        self.helper = PlayedWorker(self.world, order=self._order, make=self._make)
        return self.helper

    def first_node(self, worker: str, state: str, job: str = SECOND) -> None:
        """Writes the record of a job's first node."""
        record = WorkerRecord(
            worker=worker,
            lease=LEASE,
            state=state,
            host=f"{job}-0",
            written_at=self.world.clock.now(),
        )
        self.world.mailbox.write(f"workers/{worker}.json", record)

    def beat(self, until_s: float) -> None:
        """Lets the second job's first node write its heartbeat until a time of the world."""
        while self.world.now < until_s:
            self.first_node("w2", "ready")
            self.world.run(self.world.now + 10.0)


@pytest.fixture(params=[HelperNodeWorker, RayNodeWorker])
def node(monkeypatch, request):
    made = Node(monkeypatch, request.param)
    yield made
    MemoryStore.forget(made.world.url)


def test_a_helper_ends_once_the_first_node_of_its_job_has_ended(node):
    """A job of helpers alone is paid, and counts as one that works on the run."""
    helper = node.start()
    node.beat(1000.0)
    assert helper.ended_at is None, "the first node may wait for the training of another job"
    node.first_node("w2", "leaving")
    node.world.run(node.world.now + 60.0)
    assert helper.ended_at is not None


def test_a_helper_ends_once_the_first_node_of_its_job_is_silent(node):
    """It was killed, and wrote nothing."""
    helper = node.start()
    node.beat(100.0)
    node.world.run(100.0 + multi_node.SILENT_S / 2)
    assert helper.ended_at is None
    node.world.run(130.0 + multi_node.SILENT_S + multi_node.LOOK_S)
    assert helper.ended_at is not None


def test_a_helper_waits_for_the_first_node_of_a_job_that_starts_again(node):
    """Azure starts a job again under its name: the record of the first time is there."""
    node.first_node("w0", "leaving")
    node.world.run(5.0)
    helper = node.start()
    node.world.run(200.0)
    assert helper.ended_at is None
    node.beat(1000.0)
    assert helper.ended_at is None


@pytest.mark.parametrize(
    ("host", "on"), [(FIRST, True), (f"{FIRST}-0", True), (f"{FIRST}2", False), ("", False)]
)
def test_a_host_is_one_of_a_job_s_nodes_by_its_whole_name(host, on):
    """Job 1 is not job 12."""
    assert is_on(FIRST, host) is on
