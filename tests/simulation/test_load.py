"""The benchmark of the load counts requests, heartbeats and ages on the virtual clock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOK = """
from tests.benchmarks.load import gap, month, rows, simulated
seen = simulated(runs=2, work_s=90.0)
assert seen.window_s > 20, seen
assert gap(seen.beats) <= 10, seen.beats
assert max(seen.ages) <= 15, seen.ages
assert 0 < seen.of("driver").total() / seen.window_s <= 10, seen.asked
assert {"put", "get", "list"} <= seen.of("worker", "ticket").keys(), seen.asked
assert 0 < month(seen, "gs://") < month(seen, "az://")
assert len(rows(seen, 2)) == 7
"""


@pytest.mark.heavy
def test_the_load_of_a_few_runs_is_counted():
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
