"""How many schedules reach what is rare: a condition that none reaches is not tested here."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from tests.simulation.campaign import BACKENDS, one
from tests.simulation.patches import installed, world
from tests.simulation.plan import Plan, draw
from tests.simulation.schedule import Result

Calls = Callable[[Any, tuple[Any, ...]], bool]
REACHED_BY: dict[str, tuple[str, Calls]] = {
    "a damaged object": ("drillyard.errors.CorruptObject.__init__", lambda done, args: True),
    "`reopen.repeat`": ("drillyard.driver.reopen.repeat", lambda done, args: bool(args[1])),
    "a place that is full": (
        "drillyard.leases.places.Places.pass_over",
        lambda done, args: True,
    ),
    "a job missing by name": (
        "drillyard_backends.azure.jobs.Jobs._look_for",
        lambda done, args: args[1] in args[0]._unseen,
    ),
    "a limit that ends a lease": (
        "drillyard.leases.manager.LeaseManager.over",
        lambda done, args: bool(done),
    ),
}
"""Condition -> a function of the product, and whether a call of it reaches the condition."""
OF_RESULT: dict[str, Callable[[Plan, Result], bool]] = {
    "a study that is not `random`": lambda plan, done: plan.study > 0 and plan.chooser != "random",
    "an added seed": lambda plan, done: bool(done.counts["add_seed"]) and not plan.study,
    "a larger budget": lambda plan, done: bool(done.counts["raise_budget"]),
    "a second outage of a driver": lambda plan, done: _outages(plan) > 1,
    "a request in an outage": lambda plan, done: bool(done.counts["away"]),
}


def _outages(plan: Plan) -> int:
    kinds = {"outage", "close_lid"}
    return sum(f.kind in kinds and f.who in ("", "laptop") for f in plan.faults)


def _counting(condition: str, real: Any, reaches: Calls) -> Any:
    def counted(*args: Any, **named: Any) -> Any:
        done = real(*args, **named)
        if reaches(done, args):
            world().counts[condition] += 1
        return done

    return counted


def _synced(descriptor: int) -> None:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        world().counts["fsync of a folder"] += 1


def print_reached(first: int, schedules: int) -> int:
    """Print in how many of some schedules each condition was reached; the exit code.

    Args:
        first: The first seed.
        schedules: How many.
    """
    patches = [(target, (name, reaches)) for name, (target, reaches) in REACHED_BY.items()]
    counting = tuple((t, _counting(name, resolve_name(t), r)) for t, (name, r) in patches)
    reached: Counter[str] = Counter()
    with installed((*counting, ("os.fsync", _synced))) as begin:
        for seed in range(first, first + schedules):
            plan = draw(seed, BACKENDS[seed % len(BACKENDS)])
            done = one(plan, begin)
            reached.update({name for name in done.counts if done.counts[name]})
            reached.update({name for name, test in OF_RESULT.items() if test(plan, done)})
    print(f"first seed: {first}\n{'condition':32} schedules of {schedules}")
    for name in (*REACHED_BY, "fsync of a folder", *OF_RESULT):
        print(f"{name:32} {reached[name]}")
    return 0
