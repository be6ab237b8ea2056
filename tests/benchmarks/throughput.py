"""Throughput: a study of short runs with two workers against one, held against bare processes.

    python -m tests.benchmarks.throughput [--runs 16] [--steps 8192] [--chooser tpe]
        [--backend local]

The ceiling is what this machine gives: the same trainings as plain scripts, two at a time against
one after the other. Of drillyard the time from the first claim to the last ending is taken, so
that both sides are the work alone; workers claim once their imports are done, and each of the bare
processes has its own. A gap is the time from the end of a ticket to the next claim in its place
among the workers; of the longest one it is said which part were the last words of the process that
ended. The model is told each trial before it chooses the next one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass
class Gap:
    """Between the end of a ticket and the next claim in its place."""

    seconds: float
    last_words_s: float
    """Of that: until its ending was written, the log before it."""
    before: str
    after: str


def ours(
    folder: Path,
    runs: int,
    steps: int,
    workers: int,
    chooser: str,
    backend: str,
    name: str = "",
) -> tuple[float, list[Gap]]:
    """Seconds from the first claim to the last ending, and the gaps between tickets."""
    name = name or f"throughput-{workers}"
    text = EXPERIMENT.format(name=name, steps=steps, every=10 * steps, seeds=[1])
    text = text.replace("workers: 2", f"workers: {workers}").replace(
        "batch_size: 256", "batch_size: 256, learning_rate: $lr"
    )
    (folder / f"{name}.yaml").write_text(
        f"{text}backend: {backend}\n"
        "parameters:\n"
        "  tunables: {net: {params: {lr: {type: float, range: [1.0e-4, 1.0e-3], log: true, "
        "default: 3.0e-4}}}}\n"
        "  tunable_params: [net]\n"
        f"study: {{chooser: {chooser}, trials: {runs}, confirm: 0}}\n"
    )
    drillyard(folder, "run", f"{name}.yaml")
    mailbox = Mailbox(open_store(str(folder / "drillyard-runs")), name)
    began: list[tuple[float, str]] = []
    ended: list[tuple[float, str, float]] = []
    for ticket, attempt, is_ending in mailbox.claims():
        if is_ending:
            ending, claim = mailbox.ending(ticket, attempt), mailbox.read_claim(ticket, attempt)
            said = mailbox.store.stat(mailbox.key(f"claims/{ticket}.{attempt}.ended.json"))
            assert ending is not None and claim is not None and said is not None
            began.append((claim.claimed_at, ticket))
            ended.append((ending.ended_at, ticket, said.updated_at - ending.ended_at))
    # With n slots the k-th claim takes the place that the (k-n)-th ending made free.
    gaps = [
        Gap(start - end, words, before, after)
        for (start, after), (end, before, words) in zip(
            sorted(began)[workers:], sorted(ended), strict=False
        )
    ]
    return max(end for end, *_ in ended) - min(start for start, _ in began), gaps


def told(gaps: list[Gap]) -> str:
    """The median and the longest of some gaps."""
    worst = max(gaps, key=lambda gap: gap.seconds)
    return (
        f"{statistics.median(g.seconds for g in gaps):.2f} s, longest {worst.seconds:.2f} s "
        f"(last words {worst.last_words_s:.2f} s; {worst.before} to {worst.after})"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8192)
    parser.add_argument("--chooser", default="tpe")
    parser.add_argument("--backend", default="local")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = options.runs, options.steps
        how = options.chooser, options.backend
        ours(folder, 2, 512, 1, *how, name="warm")  # makes the databases, which both then have
        bare_2, bare_1 = (bare(folder, *sizes, n) for n in (2, 1))
        ours_2, gaps_2 = ours(folder, *sizes, 2, *how)
        ours_1, gaps_1 = ours(folder, *sizes, 1, *how)
    ceiling, ratio = bare_1 / bare_2, ours_1 / ours_2
    rows = [
        ("bare processes, one / two at a time", f"{bare_1:.1f} s / {bare_2:.1f} s"),
        ("ceiling", f"{ceiling:.2f}"),
        ("drillyard, workers 1 / 2", f"{ours_1:.1f} s / {ours_2:.1f} s"),
        ("ratio", f"{ratio:.2f}"),
        ("of the ceiling (0.93 wanted)", f"{ratio / ceiling:.2f}"),
    ]
    for workers, gaps in ((1, gaps_1), (2, gaps_2)):
        trials = [gap for gap in gaps if gap.after.endswith(".train")]
        rows += [
            (f"workers: {workers}: from ticket to ticket", told(gaps)),
            (f"workers: {workers}: to the next trial (0.5 s wanted)", told(trials)),
        ]
    table(
        f"{options.runs} trials of {options.steps} steps ({options.chooser}) on {options.backend}",
        rows,
    )


if __name__ == "__main__":
    main()
