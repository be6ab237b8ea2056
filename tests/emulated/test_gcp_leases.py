"""Leases with random faults and killed drivers: nothing lost, nothing left."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]


def swept(module: str, *words: str) -> dict[str, str]:
    """What a sweep printed, by label; it found nothing lost, left or hung."""
    done = run_process([sys.executable, "-m", f"tests.benchmarks.{module}", *words], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (row.strip().partition("  ") for row in done.stdout.splitlines())
    return {label: value.strip() for label, _, value in table}


@pytest.mark.parametrize(
    ("count", "speed"), [(6, 30), pytest.param(200, 10, marks=pytest.mark.slow)]
)
@pytest.mark.timeout(5400)
def test_no_result_is_lost_and_no_machine_left(count, speed):
    """Drivers killed and some never started again, lost answers, false DONE, late listings."""
    rows = swept("gcp_leases", str(count), "1", str(speed))
    assert rows["results lost"] == f"0 of {3 * count}"
    assert rows["machines, groups, disks, templates left"] == "0"
