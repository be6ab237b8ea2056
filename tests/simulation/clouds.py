"""What a schedule on Google Cloud or Azure has besides faults of single requests.

Settings of the backend, how its provider behaves, and troubles of that provider that last for a
while; see ``trouble`` of ``GoogleCloud`` and ``AzureCloud``.
"""

from __future__ import annotations

import random
from typing import Any

from tests.simulation.plan import Fault, Plan

SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "gcp": (
        {},
        {"regional": True},
        {"machine_types": ["n2-highcpu-8", "e2-highcpu-8"], "cheapest_first": True},
        {"on_demand_after": 1, "on_demand_when_full": True},
        {"partial": "all", "replacements": 1},
        {"replacements": 0},
        {"template": "mine"},
        {"spot": False, "public_ip": True, "subnetwork": "regions/europe-west4/subnetworks/s"},
        {"gpu_type": "nvidia-tesla-t4", "machine_types": ["n1-standard-4"]},
        {"workers_per_machine": 2},
        {"mlflow": "http://mlflow.invalid"},
    ),
    "azure": (
        {},
        {"compute": None},
        {"compute": None, "low_priority": False},
        {"compute": None, "max_nodes": 1},
        {"capacity_s": 60},
        {"runs_per_machine": 2},
        {"instance_count": 2},
        {"compute": None, "instance_count": 2},
    ),
}
PHYSICS: dict[str, tuple[dict[str, Any], ...]] = {
    "gcp": ({}, {}, {"lost_stay_listed": False}, {"one_change_at_a_time": True}),
    "azure": (
        {},
        {"cluster_tags": False},
        {"tag_filter": False, "page": 1},
        {"conditions": True, "cancel_status": 409},
        {"resizing_conflicts": True},
        {"empty_tags": True, "cancel_status": 500},
    ),
}
_DELETE = "compute.instanceGroupManagers.deleteInstances"
TROUBLES: dict[str, tuple[tuple[str, str, int], ...]] = {
    "sim": (("undeletable", "", 1),),
    "gcp": (
        ("full", "europe-west4-a", 1),
        ("full", "", 1),
        ("words", "", 1),
        ("words", "", 3),
        ("silent", "", 1),
        ("undeletable", "", 1),
        ("unreachable", "", 1),
        ("lies", "delete", 2),
        ("lies", _DELETE, 2),
        ("no right", "compute.instanceGroupManagers.update", 1),
    ),
    "azure": (
        ("full", "", 1),
        ("cores", "", 1),
        ("unready", "", 1),
        ("stuck", "", 1),
        ("build", "", 1),
        ("frozen", "", 1),
        ("not heard", "", 1),
        ("broken", "", 1),
        ("deleted", "", 1),
    ),
}
"""Backend -> what may be wrong, whom or what it concerns, and how many it hits."""


def draw_cloud(plan: Plan, dice: random.Random) -> None:
    """Draw settings and troubles of a plan on a real provider."""
    if plan.backend not in SETTINGS:
        return
    plan.settings = dict(dice.choice(SETTINGS[plan.backend]))
    plan.physics = dict(dice.choice(PHYSICS[plan.backend]))
    if plan.settings.get("workers_per_machine"):
        plan.workers = plan.seeds = 3
    for _ in range(dice.choice([0, 1, 1, 2])):
        plan.faults.append(a_trouble(plan, dice))
    if dice.random() < 0.3:
        kind, verb = (
            dice.choice(["lose-answer", "refuse"]),
            dice.choice(["PUT ", "DELETE ", "POST "]),
        )
        nth, left = dice.choice([0, 0, 1, 2]), dice.choice([1, 2])
        lost = Fault(kind, 0.0, who="driver", where=verb, nth=nth, left=left, service="cloud")
        plan.faults.append(lost)
    if dice.random() < 0.2:
        plan.faults.append(Fault("protect", round(dice.uniform(20.0, 60.0), 2), for_s=100.0))


def a_trouble(plan: Plan, dice: random.Random) -> Fault:
    """One thing that is wrong at a provider for a while."""
    name, who, count = dice.choice(TROUBLES[plan.backend])
    at = round(dice.choice([0.0, dice.uniform(0.0, 30.0 + plan.boot_s + plan.duration_s)]), 2)
    for_s = dice.choice([30.0, 90.0, 400.0, 900.0])
    return Fault("provider", at, who=who, where=name, left=count, for_s=for_s)
