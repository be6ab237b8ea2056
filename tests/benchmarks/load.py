"""What a driver and its workers ask of a bucket with 100 runs at work and 100 ms a request.

    python -m tests.benchmarks.load            # requests, heartbeats, ages: on the virtual clock
    python -m tests.benchmarks.load --cpu      # CPU time of the driver: in real processes

The first one runs the real driver and workers in the world of ``tests.simulation``, and counts
four minutes in which every run is at work. The second one runs the real driver alone, on an
emulated bucket behind a delay; another process writes what 100 workers would.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from drillyard.backend import open_backend
from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.status import Status
from tests.helpers.patience import until
from tests.helpers.tiny_backend import tiny

from . import common
from .played_machines import unplayed
from .virtual_clock import VirtualClock

RUNS, LATENCY_S, PACE_S = 100, 0.1, 2.0
WORK_S, SETTLED_S = 300.0, 60.0
CPU_WORK_S, CPU_WINDOW_S = 240.0, 60.0
STORE = "gs://load"
WRITES = ("put", "create", "list")
"""What Google bills as class A, and Azure as writes or lists; ``get`` and ``stat`` are class B.
Deletions are free."""
PRICES = {
    "gs://": {"A": 5.00, "B": 0.40},
    "az://": {"A": 5.50, "B": 0.44},
}
"""USD for a million operations: see ``docs/how-to/cost.md`` for sources and date."""


@dataclass
class Seen:
    """What was measured.

    Attributes:
        window_s: How long all runs were at work and counted.
        asked: (kind of process, verb) -> requests in that time.
        beats: When the driver's heartbeat reached the store.
        ages: The largest age of what the driver shows of a run, each second.
    """

    window_s: float = 0.0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    beats: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)

    def of(self, *kinds: str) -> Counter[str]:
        """Verb -> requests of some kinds of processes."""
        found: Counter[str] = Counter()
        for (kind, verb), number in self.asked.items():
            if kind in kinds:
                found[verb] += number
        return found


def simulated(runs: int = RUNS, latency_s: float = LATENCY_S, work_s: float = WORK_S) -> Seen:
    """Runs of an experiment at work side by side, on the virtual clock.

    Args:
        runs: How many, each on a machine of its own.
        latency_s: Usual time of a request; each takes half to one and a half of it.
        work_s: How long each training lasts.
    """
    from tests.simulation.patches import installed
    from tests.simulation.plan import Plan
    from tests.simulation.schedule import Schedule

    plan = Plan(
        1,
        seeds=runs,
        workers=runs,
        duration_s=work_s,
        pace_s=PACE_S,
        latency_s=latency_s,
        slow_answers=0.0,
    )
    seen = Seen()
    with installed() as begin:
        schedule = Schedule(plan)
        begin(schedule.world)
        _watch(schedule.world, seen, runs)
        result = schedule.run()
    if result.failed:
        raise SystemExit(f"the simulation failed: {result.trouble[0]}")
    return seen


def _watch(world: Any, seen: Seen, runs: int) -> None:
    """Count requests, and look at the driver each second, while every run is at work."""
    from tests.simulation.world import EPOCH

    real = world.effect
    since = float("inf")

    def effect(service: str, what: str, happen: Any, **more: Any) -> Any:
        process = world.current.process
        counts = since <= world.time and len(_working(world)) == runs
        if counts:
            verb = what.partition(" ")[0] if service == "store" else "provider"
            seen.asked[process.kind, verb] += 1
        answer = real(service, what, happen, **more)
        if counts and process.kind == "driver" and what.startswith("put toy/driver/"):
            seen.beats.append(world.time)
        return answer

    def look() -> None:
        nonlocal since
        drivers, working = world.living("driver"), _working(world)
        if not drivers or (since < world.time and len(working) < runs):
            return
        world.at(world.time + 1.0, look)
        if len(working) == runs:
            since = min(since, world.time + SETTLED_S)
        if since <= world.time:
            seen.window_s = world.time - since
            now, board = EPOCH + world.time, drivers[0].driver.board
            shown = [board(process.attempt[0].partition(".")[0]) for process in working]
            seen.ages.append(max(now - b.written_at if b else float("inf") for b in shown))

    world.effect = effect
    world.at(1.0, look)


def _working(world: Any) -> list[Any]:
    return [p for p in world.living("ticket") if p.attempt[0].endswith(".train")]


def rows(seen: Seen, runs: int = RUNS) -> list[tuple[str, str]]:
    """What was counted, and its target."""
    hours = seen.window_s / 3600.0
    driver, theirs = seen.of("driver"), seen.of("worker", "ticket")
    return [
        ("counted for", f"{seen.window_s:.0f} s of virtual time"),
        (
            "largest gap between two heartbeats of the driver",
            f"{gap(seen.beats):.1f} s (at most 10)",
        ),
        ("largest age of what the driver shows of a run", f"{max(seen.ages):.1f} s (at most 15)"),
        (
            "requests of the driver",
            f"{driver.total() / seen.window_s:.1f} a second (at most 10): {_kinds(driver)}",
        ),
        (
            "requests of the workers a run and hour",
            f"{theirs.total() / hours / runs:,.0f}: "
            + _kinds(Counter({verb: round(n / hours / runs) for verb, n in theirs.items()})),
        ),
        *(
            (
                f"operations of {scheme} a month of 100 runs at work",
                f"{month(seen, scheme):,.0f} USD",
            )
            for scheme in PRICES
        ),
    ]


def gap(beats: list[float]) -> float:
    """The longest time between two of them."""
    return max((b - a for a, b in itertools.pairwise(beats)), default=float("inf"))


def month(seen: Seen, scheme: str) -> float:
    """List price of 730 hours of what was counted, in USD."""
    price, asked = PRICES[scheme], seen.of("driver", "worker", "ticket")
    cost = sum(
        n * price["A" if verb in WRITES else "B"] / 1e6
        for verb, n in asked.items()
        if verb not in ("delete", "provider")
    )
    return cost * 730.0 * 3600.0 / seen.window_s


def _kinds(asked: Counter[str]) -> str:
    return ", ".join(f"{verb} {number:,}" for verb, number in asked.most_common())


def driven(folder: Path, env: dict[str, str], clock: VirtualClock) -> dict[str, float]:
    """Be the driver of all runs; CPU time and ages while every run is at work."""
    os.environ.update(env)
    clock.install()
    loaded = tiny(
        folder,
        name="load",
        backend="gcp",
        seeds=list(range(1, RUNS + 1)),
        resources={"workers": RUNS},
        budget={"max_hours": 12, "max_cost": 100_000},
    )
    driver = Driver(loaded, Mailbox(open_store(STORE), "load"), open_backend("gcp"))
    driver.open()
    driver.provision()
    driver.setup()

    def working() -> list[str]:
        states = driver.states().values()
        return [s.ticket.run for s in states if s.status is Status.RUNNING]

    until(lambda: len(working()) == RUNS, CPU_WORK_S / 2, "every run at work")
    time.sleep(SETTLED_S / 3)
    began, cpu, ages = time.monotonic(), time.process_time(), []
    while time.monotonic() - began < CPU_WINDOW_S and len(working()) == RUNS:
        time.sleep(1.0)
        shown = [driver.board(run) for run in working()]
        ages.append(max(clock.now() - b.written_at if b else float("inf") for b in shown))
    window_s = time.monotonic() - began
    found = {"cpu": (time.process_time() - cpu) / window_s, "age": max(ages), "window": window_s}
    driver.stop("measured")
    driver.teardown()
    driver.close("measured")
    return {**found, "since": clock.now() - window_s}


def real(folder: Path) -> list[tuple[str, str]]:
    """The driver in a process of its own, on an emulated bucket that answers after 100 ms."""
    from .gcp_group import _plenty

    with unplayed(folder / "cloud", 1.0, bodies=True) as cloud:
        cloud.ask("catalogue", images=["drillyard"], all_quotas=_plenty())
        mine = {
            "PROJECT": cloud.project,
            "SERVICE_ACCOUNT": cloud.service_account,
            "IMAGE": f"projects/{cloud.project}/global/images/drillyard",
            "BUCKET": STORE.removeprefix("gs://"),
            "LISTING_LAG_S": "5",
        }
        env = {**cloud.env, **{f"DRILLYARD_GCP_{k}": v for k, v in mine.items()}}
        env["DRILLYARD_HOME"] = str(folder / "home")
        cloud.physics(boot_s=2.0)
        cloud.ask("play", store_url=STORE, train_s=CPU_WORK_S)
        cloud.fault("", delay_s=LATENCY_S)
        clock = VirtualClock.of(cloud, 1.0)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            found = other.submit(driven, folder, env, clock).result()
        log = cloud.log("")
    ended = found["since"] + found["window"]
    mine_ = [call for call in log if found["since"] <= call["time"] <= ended]
    beats = [call["time"] for call in mine_ if _is_beat(call)]
    return [
        ("counted for", f"{found['window']:.0f} s"),
        ("CPU of the driver", f"{100 * found['cpu']:.1f} % of a core (less than 10)"),
        ("largest gap between two of its heartbeats", f"{gap(beats):.1f} s (at most 10)"),
        ("largest age of what it shows of a run", f"{found['age']:.1f} s (at most 15)"),
        ("requests", f"{len(mine_) / found['window']:.1f} a second (at most 10)"),
    ]


def _is_beat(call: Any) -> bool:
    """An upload names its object in its body, which is not recorded; the answer names it too."""
    answer = call["answered"]
    name = str(answer.get("name", "")) if isinstance(answer, dict) else ""
    return call["method"] == "POST" and name.startswith("load/driver/")


def main() -> None:
    """Measure, and print."""
    words = argparse.ArgumentParser(prog="python -m tests.benchmarks.load", description=__doc__)
    words.add_argument("--cpu", action="store_true", help="real processes, for the CPU time")
    words.add_argument("--runs", type=int, default=RUNS, help="on the virtual clock")
    asked = words.parse_args()
    if asked.cpu:
        with tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name:
            common.table(f"{RUNS} runs at work, real processes", real(Path(name)))
        return
    seen = simulated(asked.runs)
    common.table(f"{asked.runs} runs at work, virtual clock", rows(seen, asked.runs))


if __name__ == "__main__":
    main()
