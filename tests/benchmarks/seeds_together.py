"""The same seeds in processes of their own, and computed together in one process.

    python -m tests.benchmarks.seeds_together [--seeds N ...] [--steps N] [--world cartpole|cstr]
                                              [--program]

Whole experiments with ``copies: compiled`` and two workers: with ``runs_per_process`` one process
trains all seeds under ``vmap``, without it each has a process. Printed for each number of seeds:
wall time and processor time of the whole command, with all of its processes. With ``--program``
only the compiled call: processor time of a rollout with its update for each seed, one lane against
all of them, in turns; one thread. The rule in
``docs/how-to/learners.md`` follows from this table; nothing is measured when an experiment runs.
Needs the extra ``jax``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import drillyard
from tests.helpers.specs import small

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
    spec = small(
        given["simulator"],
        learner={"engine": "jax", "args": given["args"]},
        train={**given["train"], "steps": steps, "copies": "compiled"},
        evaluate={"episodes": 1},
        seeds=[*range(1, seeds + 1)],
        baselines=[],
        resources={"workers": 2, "threads": 1, "device": "cpu", **one},
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


def per_seed(world: str, lanes: int, rounds: int = 5) -> tuple[float, float, float]:
    """Processor milliseconds of a rollout and its update: with one lane, and a lane of several.

    Returns:
        Both, and the seconds that compiling the program with several lanes took.
    """
    import torch

    from drillyard.learners.jax_engine import lanes as together
    from drillyard.learners.jax_engine import normalising
    from drillyard.learners.jax_engine.host import noise
    from drillyard.learners.sb3_build import build
    from drillyard.simulators.make_copies import make_vec
    from drillyard.spec.algorithms import engines
    from drillyard.spec.learning import SimulatorSpec

    torch.set_num_threads(1)
    engines.prepare(1)
    given = WORLDS[world]
    venv = make_vec(
        SimulatorSpec.model_validate(given["simulator"]),
        given["train"]["n_envs"],
        1,
        how="compiled",
    )
    model = build("ppo", None, given["args"], venv, 1, "cpu", "jax")
    model.learn(2 * model.n_steps * model.n_envs)
    one, parts = model._fused, []
    for _ in range(lanes):
        program, order, now = model._plan(0.5)
        head = one._core.network.head
        drawn = noise(head, (model.n_steps, model.n_envs, head.outputs))
        state = one._core.weights.state, one._core.weights.steps, one.base.copies
        scale = normalising.capture(one._normalize, one._settings)
        upcoming, numbers = one.base.upcoming(model.n_steps), np.array(now, np.float32)
        parts.append((*state, scale, upcoming, drawn, order, numbers, one._discounts))
    stacked = together.stack(parts, lanes)
    key = (program, one.base.simulator, one.base.limit, one._settings)

    def call(number: int) -> float:
        begin = time.process_time()
        one.together = number
        one._run((*key, number), parts[0] if number == 1 else stacked)
        return time.process_time() - begin

    call(1)
    compiling = call(lanes)
    found = [(call(1), call(lanes) / lanes) for _ in range(rounds)]
    alone, among = (statistics.median(side) * 1e3 for side in zip(*found, strict=True))
    return alone, among, compiling


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Seeds in processes, and in one program.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 16, 64])
    parser.add_argument("--steps", type=int, default=102_400)
    parser.add_argument("--world", choices=WORLDS, default="cartpole")
    parser.add_argument("--program", action="store_true")
    given = parser.parse_args()
    if given.program:
        for lanes in given.seeds:
            alone, among, compiling = per_seed(given.world, lanes)
            print(
                f"{given.world}, {lanes} lanes: {among:.1f} ms of the processor for each seed, "
                f"{alone:.1f} ms alone: {among / alone:.2f}; compiled in {compiling:.1f} s",
                flush=True,
            )
        return
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
