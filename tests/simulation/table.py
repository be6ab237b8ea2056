"""Puts each defect back in turn, and prints how many schedules it takes until it is found."""

from __future__ import annotations

import statistics

from tests.simulation.campaign import campaign
from tests.simulation.defects import DEFECTS


def print_table(first: int, seconds: float) -> int:
    """The table; the exit code is 1 if a defect was not found.

    Args:
        first: The first seed.
        seconds: Real time for each defect.
    """
    print(f"first seed: {first}")
    print(f"{'defect':52} {'schedules':>9} {'seconds':>8}  found by")
    taken, missed = [], 0
    for name in DEFECTS:
        done = campaign(first, seconds=seconds, defect=name, cut_down=False)
        if done.failed is None:
            missed += 1
            print(f"{name:52} {'-':>9} {done.seconds:8.1f}  not found", flush=True)
            continue
        taken.append(done.seconds)
        why = done.failed.trouble[0].partition("\n")[0][:80]
        print(f"{name:52} {done.schedules:9} {done.seconds:8.1f}  {why}", flush=True)
    print(
        f"{len(taken)} of {len(DEFECTS)} found, in a median of "
        f"{statistics.median(taken or [0.0]):.1f} s"
    )
    return 1 if missed else 0
