"""The same seeds in processes of their own, and computed together in one process.

    python -m tests.benchmarks.seeds_together [--seeds N ...] [--steps N] [--world cartpole|cstr]

Whole experiments with ``copies: compiled`` and two workers: with ``runs_per_process`` one process
trains all seeds under ``vmap``, without it each has a process. Printed for each number of seeds:
wall time and processor time of the whole command, with all of its processes. The rule in
``docs/how-to/learners.md`` follows from this table; nothing is measured when an experiment runs.
Needs the extra ``jax``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

import drillyard
from drillyard.spec import ExperimentSpec

from . import common

_SUBREAPER = 36
"""``PR_SET_CHILD_SUBREAPER`` of linux/prctl.h."""
WORLDS: dict[str, dict[str, Any]] = {
    "cartpole": {
        "simulator": {"id": "CartPole-v1"},
        "train": {"n_envs": 8},
        "args": {"n_steps": 128, "batch_size": 256, "n_epochs": 10},
    },
    "cstr": {
        "simulator": {"id": "cstr", "lesson": {"Cref_signal": {"values": [1, 2, 3, 4, 5]}}},
        "train": {"n_envs": 64},
        "args": {"n_steps": 64, "batch_size": 2048, "n_epochs": 4, "learning_rate": 2e-3},
    },
}


def took(world: str, seeds: int, steps: int, together: int) -> tuple[float, float]:
    """Seconds of the clock and of the processor of an experiment."""
    given = WORLDS[world]
    one = {"runs_per_process": together} if together > 1 else {}
    spec = ExperimentSpec.model_validate(
        {
            "name": "seeds",
            "simulator": given["simulator"],
            "learner": {
                "algorithm": "ppo",
                "engine": "jax",
                "preset": None,
                "args": given["args"],
            },
            "train": {**given["train"], "steps": steps, "copies": "compiled"},
            "evaluate": {"episodes": 1},
            "seeds": [*range(1, seeds + 1)],
            "baselines": [],
            "tracking": {"mlflow": None, "tensorboard": False},
            "resources": {"workers": 2, "threads": 1, "device": "cpu", **one},
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        begin, before = time.perf_counter(), _processor()
        drillyard.run(spec, folder=folder, store=folder / "store", report=False, flow=False)
        return time.perf_counter() - begin, _processor() - before


def _processor() -> float:
    """Seconds of the processor of this process and of all that it started, which have ended."""
    psutil.wait_procs(psutil.Process().children(), timeout=20.0)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Seeds in processes, and in one program.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 16, 64])
    parser.add_argument("--steps", type=int, default=102_400)
    parser.add_argument("--world", choices=WORLDS, default="cartpole")
    given = parser.parse_args()
    # What outlives its parent comes to this process, and counts.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    took(given.world, 1, 8_192, 1)  # modules are read from the disk once
    rows = []
    for seeds in given.seeds:
        apart = took(given.world, seeds, given.steps, 1)
        one = took(given.world, seeds, given.steps, seeds)
        said = (
            f"in processes {apart[0]:.1f} s ({apart[1]:.1f} s of the processor), "
            f"in one {one[0]:.1f} s ({one[1]:.1f} s): {apart[0] / one[0]:.2f} times as fast, "
            f"{apart[1] / one[1]:.2f} by the processor"
        )
        rows.append((f"{seeds} seeds", said))
        print(*rows[-1], flush=True)
    common.table(f"PPO on {given.world}, {given.steps} steps a seed", rows)


if __name__ == "__main__":
    main()
