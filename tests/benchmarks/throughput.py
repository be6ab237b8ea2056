"""Throughput: short runs with two workers against one, held against bare processes.

    python -m tests.benchmarks.throughput [--runs 16] [--steps 8192] [--backend local]

The ceiling is what this machine gives: the same trainings as plain scripts, two at a time against
one after the other. Of drillyard the time from the first claim to the last ending is taken, so
that both sides are the work alone; the gaps are those between a ticket's end and the next claim of
the same worker's slot.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drillyard.mailbox import Mailbox, open_store
from tests.benchmarks.common import EXPERIMENT, PLAIN, drillyard, table


def bare(folder: Path, runs: int, steps: int, at_once: int) -> float:
    """Seconds that the plain script takes for all runs."""

    def one(seed: int) -> None:
        command = [sys.executable, str(PLAIN), str(steps), str(10 * steps), str(seed)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(one, range(1, runs + 1)))
    return time.perf_counter() - began


def ours(folder: Path, runs: int, steps: int, workers: int, backend: str) -> tuple[float, float]:
    """Seconds from the first claim to the last ending, and the longest gap between tickets."""
    name = f"throughput-{workers}"
    text = EXPERIMENT.format(
        name=name, steps=steps, every=10 * steps, seeds=list(range(1, runs + 1))
    )
    (folder / f"{name}.yaml").write_text(
        text.replace("workers: 2", f"workers: {workers}") + f"backend: {backend}\n"
    )
    drillyard(folder, "run", f"{name}.yaml")
    mailbox = Mailbox(open_store(str(folder / "drillyard-runs")), name)
    began, ended = [], []
    for ticket, attempt, is_ending in mailbox.claims():
        if is_ending:
            ending, claim = mailbox.ending(ticket, attempt), mailbox.read_claim(ticket, attempt)
            assert ending is not None and claim is not None
            began.append(claim.claimed_at)
            ended.append(ending.ended_at)
    # With n slots the k-th claim takes the place that the (k-n)-th ending made free.
    free = sorted(ended)
    gaps = [start - end for start, end in zip(sorted(began)[workers:], free, strict=False)]
    return max(ended) - min(began), max(gaps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8192)
    parser.add_argument("--backend", default="local")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = options.runs, options.steps
        bare_2, bare_1 = (bare(folder, *sizes, n) for n in (2, 1))
        ours_2, gap_2 = ours(folder, *sizes, 2, options.backend)
        ours_1, gap_1 = ours(folder, *sizes, 1, options.backend)
    ceiling, ratio = bare_1 / bare_2, ours_1 / ours_2
    table(
        f"{options.runs} runs of {options.steps} steps on {options.backend}",
        [
            ("bare processes, one / two at a time", f"{bare_1:.1f} s / {bare_2:.1f} s"),
            ("ceiling", f"{ceiling:.2f}"),
            ("drillyard, workers 1 / 2", f"{ours_1:.1f} s / {ours_2:.1f} s"),
            ("ratio", f"{ratio:.2f}"),
            ("of the ceiling (0.93 wanted)", f"{ratio / ceiling:.2f}"),
            ("longest gap between tickets (0.5 s wanted)", f"{gap_1:.2f} s / {gap_2:.2f} s"),
        ],
    )


if __name__ == "__main__":
    main()
