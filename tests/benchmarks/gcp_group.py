"""One group of hundreds of machines on the emulated Google Cloud: what its driver takes.

    python -m tests.benchmarks.gcp_group [machines ...]

One experiment of N seeds on N machines, which the emulator plays without processes
(``played_machines``), with nobody in between: memory of the driver's process beyond its start,
Compute calls of driver and machines a machine, and the most that one method was called in ten
seconds of the cloud's time. Twice the machines must not take more than twice of anything. The
requests to the bucket are those of the driver alone.
"""

from __future__ import annotations

import importlib
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from drillyard.backend import open_backend
from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox, open_store
from tests.helpers.tiny_backend import tiny

from . import common
from .played_machines import unplayed
from .virtual_clock import VirtualClock

SPEED = 1.0
TRAIN_S = 60.0
WINDOW_S = 10.0
STORE = "gs://group"
_NAMES = re.compile(r"/(dy-[^/:?]+|europe-west1-.|operation-[^/]+)")


def drive(count: int, folder: Path, env: dict[str, str], clock: VirtualClock) -> dict[str, float]:
    """Be the driver; what it took."""
    os.environ.update(env)
    clock.install()
    for library in ("google.cloud.compute_v1", "google.cloud.storage"):
        importlib.import_module(library)  # a hundred MiB, however many machines
    loaded = tiny(
        folder,
        name="group",
        backend="gcp",
        seeds=list(range(1, count + 1)),
        resources={"workers": count},
        budget={"max_hours": 12, "max_cost": 100_000},
    )
    driver = Driver(loaded, Mailbox(open_store(STORE), "group"), open_backend("gcp"))
    memory, began = _peak_mib(), time.process_time()
    for ticket in driver.open():
        if driver.lease is None:
            driver.provision()
            driver.setup()
        driver.wait(ticket.ticket)
    driver.teardown()
    driver.close("succeeded")
    return {"memory": _peak_mib() - memory, "cpu": time.process_time() - began}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def measure(count: int, folder: Path) -> list[tuple[str, str]]:
    """One group; the rows about it."""
    with unplayed(folder / "cloud", SPEED) as cloud:
        cloud.ask("catalogue", images=["drillyard"], all_quotas=_plenty())
        mine = {
            "PROJECT": cloud.project,
            "SERVICE_ACCOUNT": cloud.service_account,
            "IMAGE": f"projects/{cloud.project}/global/images/drillyard",
            "BUCKET": "group",
            "LISTING_LAG_S": "5",
        }
        env = {**cloud.env, **{f"DRILLYARD_GCP_{k}": v for k, v in mine.items()}}
        env["DRILLYARD_HOME"] = str(folder / "home")
        cloud.ask("play", store_url=STORE, train_s=TRAIN_S)
        clock = VirtualClock.of(cloud, SPEED)
        # Spawned, so that its peak of memory is its own.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            took = other.submit(drive, count, folder, env, clock).result()
        calls, bucket = cloud.log(" compute"), len(cloud.log(" storage"))
        state = cloud.state()
    assert len(state["all_machines"]) >= count and not state["machines"]
    by_method = Counter(_method(call) for call in calls)
    name, rate = max(((m, _most(calls, m)) for m in by_method), key=lambda found: found[1])
    most = ", ".join(f"{method} {n}" for method, n in by_method.most_common(4))
    return [
        ("machines", f"{count} ({len(state['all_machines'])} made)"),
        ("driver's memory", f"{took['memory']:.0f} MiB, {took['memory'] / count:.2f} a machine"),
        ("driver's CPU time", f"{took['cpu']:.0f} s, {took['cpu'] / count:.2f} a machine"),
        ("Compute calls", f"{len(calls)}, {len(calls) / count:.1f} a machine: {most}"),
        ("most of one method", f"{rate / WINDOW_S:.1f} a second over {WINDOW_S:.0f} s: {name}"),
        ("bucket calls of the driver", f"{bucket}, {bucket / count:.1f} a machine"),
    ]


def _plenty() -> dict[str, float]:
    names = ("CPUS", "N2_CPUS", "PREEMPTIBLE_CPUS", "INSTANCES", "SSD_TOTAL_GB", "DISKS_TOTAL_GB")
    return dict.fromkeys(names, 1e6)


def _method(call: dict[str, Any]) -> str:
    path = _NAMES.sub("", call["path"].partition("/projects/")[2].partition("/")[2])
    return f"{call['method']} {path.replace('zones/', '')}"


def _most(calls: list[dict[str, Any]], method: str) -> int:
    """The most calls of a method within any ten seconds."""
    most, window = 0, deque[float]()
    for call in calls:
        if _method(call) == method:
            window.append(call["time"])
            while window[0] < call["time"] - WINDOW_S:
                window.popleft()
            most = max(most, len(window))
    return most


def main() -> None:
    """Measure, and print."""
    for count in map(int, sys.argv[1:] or ("20", "100", "500")):
        with tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name:
            common.table(f"a group of {count}", measure(count, Path(name)))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
