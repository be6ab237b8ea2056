"""Training steps/s of ``engine: sbx`` over ``engine: sb3``: SAC on Pendulum, one thread, CPU.

    python -m tests.benchmarks.engines [STEPS [ROUNDS]]

Both sides are whole trainings by drillyard, in processes of their own, in turns. A side's rate is
that between the first and the last point of its timing stream after a quarter of the steps:
importing and compiling, which SBX needs longer for, are printed apart. Needs the extra ``sbx``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.specs import small

from . import common

ENGINES = ("sb3", "sbx")


def one(engine: str, steps: int) -> None:
    """Train in this process; prints the rate and the seconds before its first point."""
    from drillyard.mailbox.records import Phase
    from drillyard.metrics.streams import read_stream
    from drillyard.testing.phases import OneRun
    from drillyard.workloads.rl import RlWorkload

    spec = small(
        "Pendulum-v1",
        learner={"algorithm": "sac", "engine": engine},
        train={"steps": steps, "log_interval": steps // 20, "checkpoint_every": steps},
    )
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = OneRun(Path(folder), spec, RlWorkload())
        run.phase(Phase.TRAIN)
        points = [
            (line["step"], line["metrics"]["time/elapsed_s"])
            for line in read_stream(run.mailbox, run.run, "timing")
        ]
    first = next(p for p in points if p[0] >= steps / 4)
    last = points[-1]
    print(json.dumps([(last[0] - first[0]) / (last[1] - first[1]), points[0][1]]))


def main() -> None:
    """Measure in turns, and print the ratio."""
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], int(sys.argv[3]))
        return
    steps, rounds = [*map(int, sys.argv[1:]), *(4_000, 3)[len(sys.argv) - 1 :]]
    found: dict[str, list[list[float]]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine in ENGINES:
            command = [
                sys.executable,
                "-m",
                "tests.benchmarks.engines",
                "--one",
                engine,
                str(steps),
            ]
            done = subprocess.run(
                command, cwd=common.ROOT, capture_output=True, text=True, check=True
            )
            found[engine].append(json.loads(done.stdout.splitlines()[-1]))
    ratios = [b[0] / a[0] for a, b in zip(*found.values(), strict=True)]
    rows = [
        (
            engine,
            f"{statistics.median(r for r, _ in each):.0f} steps/s; first point after "
            f"{statistics.median(s for _, s in each):.1f} s",
        )
        for engine, each in found.items()
    ]
    rows.append(
        (
            "sbx over sb3",
            f"{statistics.median(ratios):.2f} ({', '.join(f'{r:.2f}' for r in ratios)})",
        )
    )
    common.table(f"SAC on Pendulum-v1, {steps:,} steps a training, {rounds} rounds", rows)


if __name__ == "__main__":
    main()
