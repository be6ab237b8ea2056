"""Copies on the nodes of a job: how many nodes it has, what they cost, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from drillyard.backend import Order
from drillyard.findings import Severity
from drillyard_backends.azure import clusters, job_body, job_width, plan
from drillyard_backends.azure.settings import AzureConfig


def config(**settings: Any) -> AzureConfig:
    place = {
        "subscription_id": "01234567-89ab-cdef-0123-456789abcdef",
        "resource_group": "g",
        "workspace": "lab",
    }
    return AzureConfig(**place, **settings)


def order(hosts: int) -> Order:
    return Order(lease_id="dy-0123456789", experiment="x", store_url="az://a/b", hosts=hosts)


def test_a_job_has_a_node_for_the_learner_and_one_for_each_host() -> None:
    body = job_body.body(config(environment="e:1"), order(2), "/root", "n", "t0001-s1.train", 0.0)
    assert body["resources"] == {"instanceCount": 3}
    assert body["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 1}
    assert clusters.nodes(config(), order(2)) == 3
    assert clusters.runs_of_a_job(config(runs_per_machine=2), order(2)) == 1
    alone = plan.estimate(config(), order(0)).per_hour
    assert plan.estimate(config(), order(2)).per_hour == pytest.approx(3 * alone)


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
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], subjects: list[str]
) -> None:
    found = list(job_width.examine(config(**settings), order(2)))
    assert [f.subject for f in found if f.severity is Severity.ERROR] == subjects
    assert all(f.fix for f in found if f.severity is Severity.ERROR)
    assert "reach the others" in found[-1].message
