"""What a worker prints is in the flow run's log soon, and once."""

from __future__ import annotations

import re
import time

import pytest

from tests.patience import until

from .yard import Yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TALKER = """
import time

import gymnasium
import numpy as np


class World(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    done = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(0.02)
        self.t += 1
        self.done += 1
        if self.done % 32 == 0:
            print(f"step {self.done} at {time.time():.2f}")
        return np.zeros(1, np.float32), float(action), False, self.t >= 20, {}
"""
LINE = re.compile(r"t0001-s1 \| step (\d+) at ([\d.]+)")


def test_lines_of_workers_are_in_the_flow_runs_log_once(team: Yard) -> None:
    (team.bench.folder / "talker.py").write_text(TALKER)
    run = team.start(team.bench.write("talks", simulator={"id": "talker:World"}))
    late: dict[str, float] = {}

    def over() -> bool:
        now = time.time()
        for line in team.api.logs({"id": run}):
            if found := LINE.search(line):
                late.setdefault(found[1], now - float(found[2]))
        return team.api.ended(run) is not None

    until(over, what="the end", every_s=0.25)
    until(lambda: len(lines(team, run)) >= 512 // 32, what="the last lines")
    print(f"a line is in the log {sorted(late.values())[len(late) // 2]:.1f} s after it was "
          f"printed, the slowest {max(late.values()):.1f} s")  # fmt: skip
    said = lines(team, run)
    assert len(said) == len(set(said))
    assert {int(step) for step, _ in said} >= set(range(32, 513, 32))


def lines(team: Yard, run: str) -> list[tuple[str, str]]:
    found = (LINE.search(line) for line in team.api.logs({"id": run}))
    return [(one[1], one[2]) for one in found if one]
