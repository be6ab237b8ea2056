"""Many schedules, one after the other, until the time is over or one fails."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.patches import installed
from tests.simulation.plan import Plan, draw
from tests.simulation.schedule import Result, Schedule
from tests.simulation.shrink import shrink

BACKENDS = ("sim", "gcp", "azure")
"""By the seed. Many scenes are of the simulated one, whose schedules take half the time."""


@dataclass
class Summary:
    """What a campaign did.

    Attributes:
        first: The first seed.
        schedules: How many ran.
        steps: Steps of each.
        seconds: How long it took, by its clock.
        counts: How often each fault hit.
        ends: How the last command of each schedule ended.
        failed: The first schedule that failed; None: none.
        shortest: Its shortest form.
    """

    first: int
    schedules: int = 0
    steps: list[int] = field(default_factory=list)
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: Result | None = None
    shortest: Plan | None = None

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "schedules": self.schedules,
            "steps": self.steps,
            "seconds": self.seconds,
            "counts": dict(self.counts),
            "failed": None if self.failed is None else self.failed.plan.seed,
        }


def one(plan: Plan, begin: object, verbose: bool = False) -> Result:
    """Run a copy of a plan.

    Args:
        plan: What happens.
        begin: From ``installed``.
        verbose: Also trace each change.
    """
    schedule = Schedule(plan.copy(), verbose)
    begin(schedule.world)  # type: ignore[operator]
    return schedule.run()


def campaign(
    first: int,
    *,
    seconds: float | None = None,
    schedules: int | None = None,
    backend: str | None = None,
    defect: str | None = None,
    cut_down: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Summary:
    """Run schedules of consecutive seeds until one fails.

    Args:
        first: The first seed.
        seconds: Time after which no schedule begins, by the clock.
        schedules: How many at most.
        backend: Where machines are rented; None: each in turn.
        defect: A defect to put back; see ``defects``.
        cut_down: Shrink a schedule that fails.
        clock: A real one: for how long; ``time.process_time`` counts only our own work.
    """
    from tests.simulation.defects import patches_of

    summary, began = Summary(first), clock()
    with installed(patches_of(defect)) as begin:
        seed = first
        while (schedules is None or summary.schedules < schedules) and (
            seconds is None or clock() - began < seconds
        ):
            result = one(draw(seed, backend or BACKENDS[seed % len(BACKENDS)]), begin)
            summary.schedules += 1
            summary.steps.append(result.steps)
            summary.counts.update(result.counts)
            if result.failed:
                summary.failed = result
                if cut_down:
                    plan = draw(seed, result.plan.backend)
                    summary.shortest = shrink(
                        plan, result.trouble[0], lambda p: one(p, begin).trouble
                    )
                break
            seed += 1
    summary.seconds = clock() - began
    return summary


def side_by_side(first: int, seconds: float, cores: int, defect: str | None = None) -> int:
    """Campaigns in several processes; prints one line for all; the exit code."""
    with ThreadPoolExecutor(cores) as pool:
        firsts = [first + 10_000_000 * core for core in range(cores)]
        did = pool.map(lambda seed: _in_turn(seed, seconds, defect), firsts)
        documents = [document for each in did for document in each]
    steps = [n for document in documents for n in document["steps"]]
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(document["counts"])
    print(line(len(steps), steps, seconds, counts))
    failed = [d["failed"] for d in documents if d["failed"] is not None]
    print(f"{len(failed)} of {len(steps):,} schedules failed")
    return 1 if failed else 0


def _in_turn(first: int, seconds: float, defect: str | None) -> list[Any]:
    """What one core did: after a schedule that fails, the next process goes on behind it."""
    ends, documents = time.monotonic() + seconds, []
    while (left := ends - time.monotonic()) > 0:
        words = ["--json", "--seconds", str(left), "--seed-from", str(first)]
        words += ["--defect", defect] if defect else []
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", *words],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            text=True,
            check=False,
        )
        try:
            documents.append(json.loads(done.stdout.splitlines()[-1]))
        except (IndexError, ValueError):  # it was killed, or is broken itself
            broken = {"steps": [], "counts": {}, "failed": first}
            documents.append(broken)
            print(f"a process ended with {done.returncode}, from seed {first} on; others follow")
            first += 1_000_000
            continue
        if (failed := documents[-1]["failed"]) is None:
            break
        print(f"failed: python -m tests.simulation --seed {failed}; others follow", flush=True)
        first = failed + 1
    return documents


def line(schedules: int, steps: list[int], seconds: float, counts: Counter[str]) -> str:
    """The figures of a campaign."""
    faults = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
    return (
        f"{schedules:,} schedules, {sum(steps):,} steps in {seconds:.0f} s; steps of a schedule: "
        f"median {statistics.median(steps or [0]):,.0f}, most {max(steps, default=0):,}\n"
        f"faults that hit: {faults}"
    )
