"""Copies on the nodes of a job: how many nodes it has, what they cost, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from drillyard.backend import Order
from drillyard.documents.json_types import as_object
from drillyard.findings import Severity
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard_backends.azure import clusters, job_body, job_width, plan
from drillyard_backends.azure.job import JobWorker
from drillyard_backends.azure.settings import AzureConfig
from tests.helpers.worker_world import PlayedPusher, PlayedWorker, World


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
