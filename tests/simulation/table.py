"""Puts each defect back in turn, and prints how many schedules it takes until it is found."""

from __future__ import annotations

import statistics
import time

from tests.simulation.campaign import campaign
from tests.simulation.defects import DEFECTS


def print_table(
    first: int,
    seconds: float,
    schedules: int | None = None,
    backend: str | None = None,
    part: tuple[int, int] = (1, 1),
    floor: int | None = None,
) -> int:
    """The table; the exit code is 1 if too few defects were found.

    Args:
        first: The first seed.
        seconds: CPU time for each defect, so that other work on the machine changes nothing.
        schedules: How many for each defect at most.
        backend: Where machines are rented; None: each in turn.
        part: The n-th of so many parts of the table.
        floor: How many must be found; None: all.
    """
    number, parts = part
    mine = list(DEFECTS)[number - 1 :: parts]
    print(f"first seed: {first}")
    print(f"{'defect':46} {'schedules':>9} {'CPU s':>7}  found by")
    taken = []
    for name in mine:
        began = time.process_time()
        done = campaign(
            first,
            seconds=seconds,
            schedules=schedules,
            backend=backend,
            defect=name,
            cut_down=False,
            clock=time.process_time,
        )
        took_s = time.process_time() - began
        if done.failed is None:
            why, until = f"not found in {done.schedules}", "-"
        else:
            taken.append(took_s)
            why, until = done.failed.trouble[0].partition("\n")[0][:80], str(done.schedules)
        print(f"{name:46} {until:>9} {took_s:7.1f}  {why}", flush=True)
    print(
        f"{len(taken)} of {len(mine)} found, in a median of "
        f"{statistics.median(taken or [0.0]):.1f} s of CPU time"
    )
    return 1 if len(taken) < (len(mine) if floor is None else floor) else 0
