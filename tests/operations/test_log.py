"""What a worker prints is in the flow run's log soon, and once."""

from __future__ import annotations

import re
import time

import pytest

from tests.helpers.patience import until
from tests.helpers.yard import Yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LINE = re.compile(r"t0001-s1 \| step (\d+) at ([\d.]+)")


def test_lines_of_workers_are_in_the_flow_runs_log_once(team):
    world = {"id": "world:Slow", "args": {"step_s": 0.02, "talk": 32}}
    run = team.start(team.bench.write("talks", simulator=world))
    late: dict[str, float] = {}

    def over() -> bool:
        now = time.time()
        for line in team.api.logs({"id": run}):
            if found := LINE.search(line):
                late.setdefault(found[1], now - float(found[2]))
        return team.api.ended(run) is not None

    until(over, what="the end", every_s=0.25)
    until(lambda: len(lines(team, run)) >= 512 // 32, what="the last lines")
    print(
        f"a line is in the log {sorted(late.values())[len(late) // 2]:.1f} s after it was "
        f"printed, the slowest {max(late.values()):.1f} s"
    )
    said = lines(team, run)
    assert len(said) == len(set(said))
    assert {int(step) for step, _ in said} >= set(range(32, 513, 32))


def lines(team: Yard, run: str) -> list[tuple[str, str]]:
    found = (LINE.search(line) for line in team.api.logs({"id": run}))
    return [(one[1], one[2]) for one in found if one]
