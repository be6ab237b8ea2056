"""Leases on the emulated Google Cloud with random faults: results lost, machines left.

    python -m tests.benchmarks.gcp_leases [leases] [seed] [speed]

What is done to them: ``leases``. The cloud loses answers, fails deletions, says DONE and does
nothing, lists late, takes machines away. Machines are threads with tiny tickets
(``played_machines``); for real ones see ``trainings gcp``. The judge is the emulated cloud's own
state; the exit code is 1 when anything was lost or left.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drillyard_emulators.http.handle import GcpEmulator

from .leases import Outcome, Place, Sweep, main
from .played_machines import unplayed
from .virtual_clock import VirtualClock

SPEED = 10.0
"""Virtual seconds a real one; a few leases alone may go faster."""
LAG_S = 30.0
CUT = 0.05
LOST_CREATES, DELETE_ERRORS, FALSE_DONE = 0.10, 0.10, 0.05
SETTINGS = {"LISTING_LAG_S": str(LAG_S), "BUCKET": "leases"}
STORE = "gs://leases"
KINDS = ("machines", "groups", "disks", "templates")


def make_unlucky(cloud: GcpEmulator) -> None:
    """Put the faults in force."""
    create = r"^POST .*(instanceTemplates|instanceGroupManagers|createInstances)(\?|$)"
    cloud.fault(create, lose=True, after=True, probability=LOST_CREATES)
    for what, method in (
        ("instanceGroupManagers/[^/]+(\\?|$)", "DELETE"),
        ("instanceTemplates/[^/]+(\\?|$)", "DELETE"),
        ("deleteInstances", "POST"),
    ):
        cloud.fault(what, method=method, status=503, probability=DELETE_ERRORS)
    kinds = ("delete", "compute.instanceGroupManagers.deleteInstances")
    cloud.physics(
        listing_lag_s=LAG_S,
        false_done=[{"kind": kind, "probability": FALSE_DONE} for kind in kinds],
    )


def prepare() -> None:
    """Reading the account's key is most of what a client costs that is made for each of them."""
    from google.auth.crypt import RSASigner

    RSASigner.from_string = functools.lru_cache(RSASigner.from_string)


def left(state: Mapping[str, Any]) -> list[str]:
    """What costs money."""
    return [f"{kind}: {thing}" for kind in KINDS for thing in state[kind]]


def count(state: Mapping[str, Any], outcome: Outcome) -> None:
    """Write down the faults that were played."""
    outcome.cuts = sum(m["preempted"] for m in state["all_machines"])
    for rule in state["faults"]:
        kind = "answers lost" if rule["lose"] else "calls failed"
        outcome.faults[kind] += rule["played"]
    false = state["physics"]["false_done"]
    outcome.faults["false DONE"] += sum(rule["played"] for rule in false)


def later(cloud: GcpEmulator, clock: VirtualClock, seconds: float) -> VirtualClock:
    """The cloud's own time goes on."""
    cloud.advance(seconds)
    return VirtualClock.of(cloud, clock.speed)


PLACE = Place(
    backend="gcp",
    store=STORE,
    modules=(
        "drillyard_backends.gcp.backend",
        "google.cloud.compute_v1",
        "google.cloud.storage",
        "google.auth",
        "requests",
    ),
    prepare=prepare,
    left=left,
    count=count,
    later=later,
    start_within_s=120.0,
    away_s=300.0,
    typical_s=300.0,
)


def sweep(count: int, seed: int, folder: Path, speed: float = SPEED) -> Outcome:
    """Some leases on an emulated cloud of their own. Changes this process's environment.

    Args:
        count: Of leases.
        seed: Of the faults, and of the moments of the kills.
        folder: Of its own.
        speed: Virtual seconds a real one.
    """
    with unplayed(folder / "cloud", speed, seed) as cloud:
        mine = {**SETTINGS, "PROJECT": cloud.project, "SERVICE_ACCOUNT": cloud.service_account}
        cloud.ask("catalogue", images=["drillyard"])
        mine["IMAGE"] = f"projects/{cloud.project}/global/images/drillyard"
        os.environ.update({**cloud.env, **{f"DRILLYARD_GCP_{k}": v for k, v in mine.items()}})
        os.environ["DRILLYARD_HOME"] = str(folder / "home")
        clock = VirtualClock.of(cloud, speed)
        clock.install()
        make_unlucky(cloud)
        cloud.physics(boot_s=5.0)
        cloud.ask("play", store_url=STORE, cut=CUT, seed=seed)
        return Sweep(PLACE, cloud, folder, clock, seed).run(count)


if __name__ == "__main__":
    main(sweep, SPEED, ", ".join(KINDS))
