"""Copies on the nodes of a job: what is rented, and when the nodes beside the first end."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from drillyard.backend import Order
from drillyard.documents.json_types import as_object
from drillyard.findings import Severity
from drillyard.mailbox.driver_lock import MACHINE, DriverLock
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard_backends.azure import clusters, job_body, job_width, multi_node, plan
from drillyard_backends.azure.job import JobWorker
from drillyard_backends.azure.jobs import is_on
from drillyard_backends.azure.multi_node import HelperNodeWorker, RayNodeWorker
from drillyard_backends.azure.settings import AzureConfig
from tests.helpers.records import tell_worker
from tests.helpers.worker_world import LEASE, PlayedPusher, PlayedWorker, World

# -- Copies on the nodes of a job: how many nodes it has, what they cost, and what is refused -


def config(**settings: Any) -> AzureConfig:
    place = {
        "subscription_id": "01234567-89ab-cdef-0123-456789abcdef",
        "resource_group": "g",
        "workspace": "lab",
    }
    return AzureConfig(**place, **settings)


def order(hosts: int) -> Order:
    return Order(lease_id="dy-0123456789", experiment="x", store_url="az://a/b", hosts=hosts)


def test_a_job_has_a_node_for_the_learner_and_one_for_each_host():
    body = job_body.body(config(environment="e:1"), order(2), "/root", "n", "t0001-s1.train", 0.0)
    assert body["resources"] == {"instanceCount": 3}
    assert body["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 1}
    assert body["identity"] == {"identityType": "Managed"}, "else it is the user's token"
    assert clusters.nodes(config(), order(2)) == 3
    assert clusters.runs_of_a_job(config(runs_per_machine=2), order(2)) == 1
    alone = plan.estimate(config(), order(0)).per_hour
    assert plan.estimate(config(), order(2)).per_hour == pytest.approx(3 * alone)


def test_the_nodes_that_hosted_are_not_paid_for_while_the_agent_is_evaluated():
    """They have nothing to do in it, and Azure bills all nodes of a job until it ends."""
    for settings in ({}, {"instance_count": 3}):
        rented = config(environment="e:1", **settings)
        body = job_body.body(rented, order(2), "/root", "n", "t0001-s1.evaluate", 0.0)
        assert body["resources"] == {"instanceCount": 1} and "distribution" not in body
        assert as_object(body["environmentVariables"])["DRILLYARD_JOB_WIDTH"] == "1"


@pytest.mark.parametrize(
    ("hosts", "driven", "left"),
    [
        (2, True, [Status.READY, Status.PENDING]),
        (2, False, [Status.SUCCEEDED, Status.SUCCEEDED]),
        (0, True, [Status.SUCCEEDED, Status.SUCCEEDED]),
    ],
)
def test_the_first_node_leaves_the_evaluation_to_a_job_of_one_node_if_a_driver_can_send_it(
    monkeypatch, hosts, driven, left
):
    world = World(f"azure-{hosts}-{driven}")
    if driven:
        DriverLock(world.mailbox, world.clock).take(["test"])
    monkeypatch.setenv("DRILLYARD_JOB_WIDTH", str(hosts + 1))
    run = world.post(1, (Phase.TRAIN, Phase.EVALUATE, Phase.STORE))
    pusher = PlayedPusher()
    PlayedWorker(world, make=JobWorker, pusher=pusher, order={"hosts": hosts})
    world.at(1.0, lambda: pusher.hand(f"{run}.train"))
    world.run(60.0)
    states = ticket_states(world.mailbox)
    assert states[f"{run}.train"].status is Status.SUCCEEDED
    assert [states[f"{run}.{p}"].status for p in ("evaluate", "store")] == left
    assert pusher.heard == [(f"{run}.train", "SUCCEEDED")]
    MemoryStore.forget(world.url)


@pytest.mark.parametrize(
    ("settings", "subjects"),
    [
        ({}, []),
        ({"instance_count": 3}, []),
        ({"instance_count": 2}, ["instance_count"]),
        ({"runs_per_machine": 2}, ["runs_per_machine"]),
        ({"max_nodes": 2}, ["max_nodes"]),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, subjects):
    found = list(job_width.examine(config(**settings), order(2)))
    assert [f.subject for f in found if f.severity is Severity.ERROR] == subjects
    assert all(f.fix for f in found if f.severity is Severity.ERROR)
    assert "reach the others" in found[-1].message


# -- The nodes of a job that is one run: those beside the first one end with it ---------------


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
        told = {"host": f"{job}-0", "written_at": self.world.clock.now()}
        tell_worker(self.world.mailbox, worker, LEASE, state=state, **told)

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
    node.beat(multi_node.SILENT_S + 100.0)
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
    node.beat(multi_node.SILENT_S + 100.0)
    assert helper.ended_at is None


@pytest.mark.parametrize(
    ("host", "on"), [(FIRST, True), (f"{FIRST}-0", True), (f"{FIRST}2", False), ("", False)]
)
def test_a_host_is_one_of_a_job_s_nodes_by_its_whole_name(host, on):
    """Job 1 is not job 12."""
    assert is_on(FIRST, host) is on
