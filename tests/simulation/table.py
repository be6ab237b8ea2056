"""Puts each defect back in turn, and prints how many schedules it takes until it is found."""

from __future__ import annotations

import statistics
import time

from tests.simulation.campaign import campaign
from tests.simulation.defects import DEFECTS


def print_table(
    first: int, seconds: float, schedules: int | None = None, backend: str | None = None
) -> int:
    """The table; the exit code is 1 if a defect was not found.

    Args:
        first: The first seed.
        seconds: Real time for each defect.
        schedules: How many for each defect at most.
        backend: Where machines are rented; None: each in turn.
    """
    print(f"first seed: {first}")
    print(f"{'defect':46} {'schedules':>9} {'CPU s':>7}  found by")
    taken, missed = [], 0
    for name in DEFECTS:
        began = time.process_time()
        done = campaign(
            first,
            seconds=seconds,
            schedules=schedules,
            backend=backend,
            defect=name,
            cut_down=False,
        )
        took_s = time.process_time() - began
        if done.failed is None:
            missed += 1
            why, number = f"not found in {done.schedules}", "-"
        else:
            taken.append(took_s)
            why, number = done.failed.trouble[0].partition("\n")[0][:80], str(done.schedules)
        print(f"{name:46} {number:>9} {took_s:7.1f}  {why}", flush=True)
    print(
        f"{len(taken)} of {len(DEFECTS)} found, in a median of "
        f"{statistics.median(taken or [0.0]):.1f} s of CPU time"
    )
    return 1 if missed else 0
