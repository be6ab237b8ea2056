"""Cuts a failing schedule down: fewer faults, fewer runs, as long as it fails in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.simulation.plan import Plan

_NUMBERS = re.compile(r"[0-9a-f]{6,}|\d+(\.\d+)?")


def shape(trouble: str) -> str:
    """What went wrong, without the names and numbers of one schedule."""
    return _NUMBERS.sub("#", trouble.partition("\n")[0])[:60]


def shrink(plan: Plan, trouble: str, run: Callable[[Plan], list[str]], most: int = 80) -> Plan:
    """The shortest plan that still fails in the same way.

    Args:
        plan: It fails.
        trouble: How.
        run: Runs a copy of a plan; what did not hold.
        most: Schedules that may be tried.
    """
    wanted, tries = shape(trouble), 0
    found = True
    while found and tries < most:
        found = False
        for candidate in _smaller(plan):
            tries += 1
            if any(shape(one) == wanted for one in run(candidate.copy())):
                plan, found = candidate, True
                break
            if tries >= most:
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    faults = plan.faults
    if len(faults) > 3:
        half = len(faults) // 2
        for part in (faults[:half], faults[half:]):
            yield plan.copy(faults=[*part])
    for number in range(len(faults)):
        yield plan.copy(faults=faults[:number] + faults[number + 1 :])
    if plan.slots > 1:
        yield plan.copy(slots=1, hosts=False)
    if plan.skews:
        yield plan.copy(skews={})
    if plan.study:
        yield plan.copy(study=0, given={})
    for section in ("mock", "study"):
        for name, value in plan.given.get(section, {}).items():
            less = {n: v for n, v in plan.given[section].items() if n != name or not value}
            if less != plan.given[section]:
                yield plan.copy(given={**plan.given, section: less})
    if plan.seeds > 1:
        yield plan.copy(seeds=plan.seeds - 1)
    if plan.workers > 1:
        yield plan.copy(workers=1)
