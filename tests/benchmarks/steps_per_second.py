"""Training steps/s of a `drillyard run` over those of the plain script: same settings and threads.

    python -m tests.benchmarks.steps_per_second [rounds [steps]]

In-training evaluation is off on both sides, so that only the training loop is compared. Both sides
start up as they like; from ``WARM`` steps on they take turns (``turns.py``), until one ends. A
side's steps/s are its steps over its own time in that window. In its turn, all of drillyard's
processes run: worker, agent, driver, Prefect's server, the mirror.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from . import common
from .training_sides import PlainSide, RunSide, end_on_sigterm, in_turns

STEPS = 163_840
WARM = 16_384


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    rows, ratios = [], []
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in range(rounds):
            run = RunSide(folder, f"speed-{n}", steps)
            mine, theirs = in_turns(run, PlainSide(folder, steps), WARM)
            ratios.append(mine / theirs)
            text = f"plain {theirs:5.0f}   drillyard {mine:5.0f}   ratio {ratios[-1]:5.3f}"
            rows.append((f"round {n}", text))
            print(*rows[-1], flush=True)
    text = f"{statistics.median(ratios):5.3f}   {min(ratios):5.3f} to {max(ratios):5.3f}"
    rows.append(("median", text))
    common.table(f"training steps/s, PPO on cstr, {steps} steps, 8 copies, 1 thread", rows)


if __name__ == "__main__":
    main()
