"""Runs ``plan`` against a stand-in for Google, and changes of that stand-in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from drillyard.backend import Order
from drillyard.findings import Finding, Severity
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import plan
from drillyard_backends.gcp.settings import read_settings
from tests.helpers.google_world import SETTINGS, World


def order(workers: int = 3, hours: float = 2.0, **changes: Any) -> Order:
    given: dict[str, Any] = {
        "lease_id": "dy-0123456789",
        "experiment": "e",
        "store_url": "gs://lab-runs",
        "workers": workers,
        "deadline": time.time() + hours * 3600,
        **changes,
    }
    return Order(**given)


def examined(world: World, wanted: Order | None = None, **settings: Any) -> list[Finding]:
    config = read_settings({**SETTINGS, **settings})
    found = plan.examine(config, wanted or order(), world, FakeClock(time.time()))
    # Whatever was asked, nothing could have been changed by it.
    assert all(
        a.startswith("GET ") or a.endswith((":testIamPermissions", ":getIamPolicy"))
        for a in world.asked
    )
    assert all(f.fix for f in found if f.severity is Severity.ERROR)
    return found


def faults(found: list[Finding]) -> list[Finding]:
    return [f for f in found if f.severity is not Severity.OK]


def less(*missing: str) -> Callable[[World], None]:
    return lambda world: world.allowed.difference_update(missing)


def without(path: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        del world.compute[f"projects/lab-1234/{path}".rstrip("/")]

    return change


def quota(metric: str, limit: float, usage: float = 0.0) -> Callable[[World], None]:
    def change(world: World) -> None:
        for one in world.compute["projects/lab-1234/regions/europe-west1"]["quotas"]:
            if one["metric"] == metric:
                one.update(limit=limit, usage=usage)

    return change


def setting(name: str, value: Any) -> Callable[[World], None]:
    return lambda world: setattr(world, name, value)


def changed_bucket(**fields: Any) -> Callable[[World], None]:
    return lambda world: world.buckets["lab-runs"].update(fields)
