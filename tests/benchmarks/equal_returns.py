"""Whether ``engine: jax`` reaches what ``engine: sb3`` reaches: ten seeds each, five worlds.

    python -m tests.benchmarks.equal_returns [--seeds N] [--share S] [--workers N] [--folder F]
                                             [--minutes M] [WORLD ...]

Both engines train PPO with the same arguments and budget; the final policies are evaluated on the
same episodes. The 95 % interval of the difference of the means over seeds (Welch's) is shown as a
share of the range between ``random`` and the better engine; it is to lie within 5 %. ``--share``
cuts all budgets: with less than 1 the table says nothing but that the script works. With
``--folder`` the same command continues what was interrupted there, and ``--minutes`` interrupts
it by itself: a long measurement is then several short ones. At most the seed that was in training
is trained again. The table has what is there, and says what is not. Names of worlds are those of
``WORLDS``; default: all. Needs the extra ``jax``. All worlds together take about two hours of one
core, most of it for `building` and `cstr`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import tempfile
from pathlib import Path
from typing import Any

import drillyard
from drillyard.statistics import intervals
from tests.helpers.specs import small

from . import common

ENGINES = ("sb3", "jax")
EPISODES = 50
WITHIN = 0.05
"""Of the range; what the difference's interval is to lie within."""
WORLDS: dict[str, dict[str, Any]] = {
    "cartpole": {
        "simulator": {"id": "CartPole-v1"},
        "train": {"steps": 80_000, "n_envs": 8},
        "args": {
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "learning_rate": "lin_1e-3",
        },
    },
    "acrobot": {
        "simulator": {"id": "Acrobot-v1", "wrappers": ["normalize"]},
        "train": {"steps": 100_000, "n_envs": 16},
        "args": {"n_steps": 256, "batch_size": 64, "n_epochs": 4, "gae_lambda": 0.94},
    },
    "pendulum": {
        "simulator": {"id": "Pendulum-v1"},
        "train": {"steps": 100_000, "n_envs": 4},
        "args": {"n_steps": 1024, "batch_size": 64, "gamma": 0.9, "learning_rate": 1e-3},
    },
    "cstr": {
        "simulator": {
            "id": "cstr",
            "wrappers": ["normalize"],
            "lesson": {"Cref_signal": {"values": [1, 2, 3, 4]}},
        },
        # The preset cstr/ppo-long. With 200,000 steps of cstr/ppo one seed in ten collapses, and
        # ten seeds an engine decide nothing.
        "train": {"steps": 600_000, "n_envs": 16, "copies": "vectorised"},
        "args": {
            "n_steps": 64,
            "batch_size": 256,
            "gamma": 0.95,
            "learning_rate": "lin_1e-3",
            "policy_kwargs": {"log_std_init": -1.0},
        },
        "lesson": {"Cref_signal": {"values": [1, 2, 3, 4]}},
    },
    "building": {
        "simulator": {
            "id": "building",
            "wrappers": ["normalize"],
            "lesson": {
                "day": {"min": 0, "max": 364, "int": True},
                "temperature": {"normal": {"mean": 21, "std": 2}, "min": 15, "max": 27},
            },
        },
        "train": {"steps": 1_000_000, "n_envs": 16, "copies": "vectorised"},
        "args": {
            "n_steps": 336,
            "batch_size": 448,
            "gamma": 0.98,
            "learning_rate": 1e-3,
            "policy_kwargs": {"log_std_init": -1.5},
        },
        "lesson": {"day": {"values": [0, 45, 90, 135, 180, 225, 270, 315]}},
    },
}


def trained(name: str, engine: str, seeds: int, share: float, workers: int, folder: Path) -> Any:
    """Mean return of each seed, and that of ``random``; what was measured before is read."""
    kept = folder / f"{name}-{engine}-{seeds}x{share:g}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    world = WORLDS[name]
    args = world["args"]
    rollout = args["n_steps"] * world["train"]["n_envs"]
    steps = max(1, round(world["train"]["steps"] * share / rollout)) * rollout
    spec = small(
        world["simulator"],
        name=f"{name}-{engine}",
        learner={"engine": engine, "args": args},
        train={"copies": "one-by-one", **world["train"], "steps": steps},
        evaluate={"episodes": EPISODES, "lesson": world.get("lesson")},
        seeds=[*range(1, seeds + 1)],
        baselines=["random"],
        resources={"workers": workers, "threads": 1, "device": "cpu"},
    )
    done = drillyard.run(spec, folder=folder, store=folder / "store", report=False, flow=False)
    found = done.to_dict()
    rows = {each["policy"]: each["mean_return"] for each in found["policies"]}
    measured = [run["mean_return"] for run in found["runs"]], rows["random"]
    written = kept.with_suffix(".part")
    written.write_text(json.dumps(measured))
    written.replace(kept)
    return measured


def difference(one: list[float], other: list[float]) -> tuple[float, float]:
    """Welch's 95 % interval of the difference of two means, the first less the second.

    Source: Welch, "The generalization of 'Student's' problem when several different population
    variances are involved" (1947); degrees of freedom are rounded down, which widens it.
    """
    parts = [statistics.variance(side) / len(side) for side in (one, other)]
    middle, whole = statistics.mean(one) - statistics.mean(other), sum(parts)
    if not whole:
        return middle, middle
    degrees = whole**2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (one, other), strict=True)
    )
    half = intervals.student_t(0.975, max(1, math.floor(degrees))) * math.sqrt(whole)
    return float(middle - half), float(middle + half)


def row(name: str, seeds: int, share: float, workers: int, folder: Path) -> str:
    """What a world's two experiments say."""
    sides = [trained(name, engine, seeds, share, workers, folder) for engine in ENGINES]
    (theirs, chance), (ours, _) = sides
    best = max(statistics.mean(ours), statistics.mean(theirs))
    low, high = (100 * end / abs(best - chance) for end in difference(ours, theirs))
    within = low >= -100 * WITHIN and high <= 100 * WITHIN
    return (
        f"sb3 {statistics.mean(theirs):.1f}, jax {statistics.mean(ours):.1f}, random "
        f"{chance:.1f}: difference {low:+.1f} to {high:+.1f} % of the range "
        f"({'within' if within else 'NOT within'} 5 %)"
    )


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description="What both engines reach.")
    parser.add_argument("worlds", nargs="*", metavar="WORLD")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--minutes", type=float, help="end after that many, to be continued")
    given = parser.parse_args()
    if unknown := set(given.worlds) - WORLDS.keys():
        parser.error(f"no such world: {', '.join(unknown)}; there are {', '.join(WORLDS)}")
    names, rows = given.worlds or [*WORLDS], []
    if given.minutes:
        # Ctrl-C is what ends a run in order: its worker is stopped, and what is done is kept.
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 60 * given.minutes)
    with contextlib.ExitStack() as stack:
        scratch = given.folder or stack.enter_context(tempfile.TemporaryDirectory())
        with contextlib.suppress(KeyboardInterrupt):
            for name in names:
                said = row(name, given.seeds, given.share, given.workers, Path(scratch))
                rows.append((name, said))
                print(name, said, flush=True)
            signal.setitimer(signal.ITIMER_REAL, 0)
    rows += [(name, "not measured to the end; the same command continues") for name in names][
        len(rows) :
    ]
    common.table(f"PPO, {given.seeds} seeds an engine, {EPISODES} episodes each", rows)


if __name__ == "__main__":
    main()
