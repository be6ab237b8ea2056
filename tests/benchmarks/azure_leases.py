"""Leases on the emulated Azure with random faults: results lost, jobs and clusters left.

    python -m tests.benchmarks.azure_leases [leases] [seed]

What is done to them: ``leases``. The cloud loses answers, answers with 429 and 503, takes nodes
away and loses them. Jobs are threads with tiny tickets (``played_jobs``). The judge is the
emulated cloud's own state; the exit code is 1 when anything was lost or left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drillyard_backends.azure.login import credential
from drillyard_backends.azure.store import BlobStore
from drillyard_emulators.azure.cloud import ACCOUNT, CONTAINER
from drillyard_emulators.azure.manager import Manager
from drillyard_emulators.azure.model import OVER
from drillyard_emulators.http.handle import AzureEmulator

from . import played_jobs
from .leases import Outcome, Place, Sweep, main
from .virtual_clock import VirtualClock

SPEED = 1.0
"""Azurite stamps blobs with the time of this machine."""
CUT, LOST, BUSY, FAILED = 0.10, 0.10, 0.03, 0.03
SETTINGS = {
    "SUBSCRIPTION_ID": Manager.subscription,
    "RESOURCE_GROUP": Manager.group,
    "WORKSPACE": Manager.workspace,
    "IMAGE": "mcr.example/drillyard:1",
    "PREFIX": "leases",
}
STORE = f"az://{ACCOUNT}/{CONTAINER}/leases"


def make_unlucky(cloud: AzureEmulator) -> None:
    """Put the faults in force."""
    changes = r"^(PUT|POST|DELETE) management\.azure\.com"
    cloud.fault(changes, lose=True, after=True, probability=LOST)
    cloud.fault(r" management\.azure\.com", status=429, probability=BUSY)
    cloud.fault(r" management\.azure\.com", status=503, probability=FAILED)


def prepare() -> None:
    """A cluster of each lease's own, which no variable of the environment can say."""
    from drillyard_backends.azure.settings import AzureConfig

    AzureConfig.model_fields["compute"].default = None
    AzureConfig.model_rebuild(force=True)


def left(state: Mapping[str, Any]) -> list[str]:
    """What costs money."""
    jobs = [f"job: {n}" for n, one in state["jobs"].items() if one["status"] not in OVER]
    nodes = [f"node: {n['name']}" for n in state["nodes"] if n["gone"] is None]
    return [*jobs, *nodes, *(f"cluster: {name}" for name in state["computes"])]


def count(state: Mapping[str, Any], outcome: Outcome) -> None:
    """Write down the faults that were played."""
    lost = [n for n in state["nodes"] if n["ended_by"] in ("preempted", "crashed")]
    outcome.cuts = len(lost)
    for rule in state["faults"]:
        outcome.faults["answers lost" if rule["lose"] else "calls failed"] += rule["played"]


def later(_: AzureEmulator, clock: VirtualClock, seconds: float) -> VirtualClock:
    """Whoever reaps comes so much later, by the store's clock too: a reaper goes by that one."""
    told = BlobStore.now
    BlobStore.now = lambda store: told(store) + seconds  # type: ignore[method-assign]
    return VirtualClock(clock.speed, clock.now() + seconds, clock.monotonic() / clock.speed)


PLACE = Place(
    backend="azure",
    store=STORE,
    modules=(
        "drillyard_backends.azure.backend",
        "azure.ai.ml",
        "azure.identity",
        "azure.storage.blob",
        "requests",
    ),
    prepare=prepare,
    left=left,
    count=count,
    later=later,
    start_within_s=20.0,
    away_s=20.0,
    typical_s=60.0,
    grace_s=0.0,
)


def sweep(number: int, seed: int, folder: Path, speed: float = SPEED) -> Outcome:
    """Some leases on an emulated cloud of their own. Changes this process's environment.

    Args:
        number: Of leases.
        seed: Of the faults, and of the moments of the kills.
        folder: Of its own.
        speed: Of its clock.
    """
    with AzureEmulator(folder / "cloud", played_jobs.__name__, speed=speed, seed=seed) as cloud:
        mine = {f"DRILLYARD_AZURE_{name}": value for name, value in SETTINGS.items()}
        os.environ.update({**cloud.env, **mine, "DRILLYARD_HOME": str(folder / "home")})
        credential.cache_clear()  # this cloud has a client secret of its own
        cloud.physics(processes=False)
        cloud.ask("play", cut=CUT, seed=seed)
        prepare()
        clock = VirtualClock.of(cloud, speed)
        clock.install()
        make_unlucky(cloud)
        return Sweep(PLACE, cloud, folder, clock, seed).run(number)


if __name__ == "__main__":
    main(sweep, SPEED, "jobs, nodes and clusters")
