"""Leases with random faults and killed drivers: nothing lost, nothing left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_no_result_is_lost_and_no_machine_left(count: int) -> None:
    """Drivers killed and some never started again, lost answers, false DONE, late listings."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gcp_leases", str(count), "1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row[:42].strip(): row[42:].strip() for row in done.stdout.splitlines()}
    assert rows["results lost"] == f"0 of {3 * count}"
    assert rows["machines, groups, disks, templates left"] == "0"
