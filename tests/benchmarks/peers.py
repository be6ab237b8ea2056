"""PPO by drillyard's engines and by other libraries, each in an environment of its own.

    python -m tests.benchmarks.peers [--folder F] [--minutes M] [--rounds N] [--steps N]
                                     [--worlds W ...] [SIDE ...]

Worlds: CartPole, the reactor, Pendulum and one of images (``peers_worlds``). Each side trains in
a process with one thread, 8 copies and the same hyperparameters (``peers_sides``); the sides take
turns by whole processes, so that load of the machine hits all alike. Columns: steps for each
second of learning; **seconds to the threshold**, from the start of the process until the mean
return of the last 20 training episodes reaches it; processor seconds and largest memory of the
process with all that it starts; that mean at the end. rejax plays no episodes that can be seen
from outside: its means are those of 20 evaluations, and every fifth rollout is followed by one.
drillyard's sides are its learner and copies; what a whole ``drillyard run`` adds is the figure of
``overhead``.

A side that needs other packages gets a virtual environment below ``--folder`` (default: a
temporary one), in which its packages come before those that run this script; one that cannot be
installed within five minutes is named, with the reason, and left out. With ``--folder`` the same
command continues: a turn that is done is not repeated, and ``--minutes`` begins none after that
time. What failed is tried again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from . import common
from .peers_worlds import WORLDS

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
INSTALL_S = 300
TURN_S = 480
LOOK_S = 0.1
OURS = ("drillyard sb3", "drillyard jax", "drillyard compiled")
FLAT = ("cartpole", "cstr", "pendulum")


@dataclass(frozen=True)
class Side:
    """The packages of a side beyond those of this script, and the worlds that it can train."""

    packages: tuple[str, ...] = ()
    worlds: tuple[str, ...] = tuple(WORLDS)


SIDES = {
    "stable-baselines3": Side(),
    "drillyard sb3": Side(),
    "drillyard jax": Side(worlds=FLAT),
    "drillyard compiled": Side(worlds=("cartpole", "cstr")),
    "rl-zoo": Side(("rl_zoo3",)),
    "sbx": Side(("sbx-rl==0.28.0",), FLAT),
    "rllib": Side(("ray[rllib]==2.60.0",)),
    "sample-factory": Side(("sample-factory==2.1.1",)),
    "rejax": Side(("rejax==0.1.3", "gymnax==0.0.9"), ("cartpole", "pendulum")),
    "pufferlib": Side(("pufferlib==3.0.0",), ()),
}
"""PufferLib has no program here: where it installs, write one and add its worlds."""
COLUMNS = {
    "steps_per_s": ("steps/s", "{:,.0f}", max),
    "to_threshold_s": ("s to threshold", "{:.1f}", min),
    "processor_s": ("CPU s", "{:.1f}", min),
    "memory_mib": ("MiB", "{:,.0f}", min),
    "mean_return": ("mean return", "{:.2f}", max),
}
REASONS = {
    "rejax": "no simulator of Python, and neither torch nor Stable-Baselines3 is imported; JAX "
    "alone starts in less time and memory. It trains only what is written in JAX",
    "stable-baselines3": "drillyard imports more beside it; the same loop does the work",
    "rl-zoo": "the same loop as Stable-Baselines3's",
    "sbx": "the same loop with one call a minibatch; the difference is in start-up",
    "sample-factory": "neither Stable-Baselines3 nor JAX is imported",
    "rllib": "another loop with other losses in detail: compare its returns",
}
"""Leader of a column -> why drillyard is not first: from how both work, not measured apart."""
FEW = "too few seeds to compare returns; see `equal_returns`"
"""The same for returns."""


@dataclass(frozen=True)
class Took:
    """A training of a side; times in seconds."""

    world: str
    side: str
    seed: int
    steps_per_s: float
    to_threshold_s: float
    processor_s: float
    memory_mib: float
    mean_return: float


def python_of(name: str, folder: Path) -> str:
    """The interpreter with a side's packages.

    Raises:
        SystemExit: They cannot be installed; the reason.
    """
    packages = SIDES[name].packages
    if not packages:
        return sys.executable
    place = (folder / name).resolve()
    found = str(place / "bin" / "python")
    if (place / "installed").exists():
        return found
    if not place.exists():
        venv.create(place, with_pip=False, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        below = [path for path in sys.path if path.endswith("site-packages")]
        mine = place / "lib" / version / "site-packages"
        (mine / "below.pth").write_text("\n".join([*below, sysconfig.get_paths()["purelib"]]))
    command = [found, "-m", "pip", "install", "-q", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"did not install within {INSTALL_S // 60} minutes") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "rror" in line]
        raise SystemExit(f"pip cannot install it: {' / '.join(lines)[-400:]}")
    (place / "installed").touch()
    return found


def turn(python: str, name: str, side: str, steps: int, seed: int) -> Took:
    """Train once.

    Raises:
        SystemExit: The training failed, or took longer than eight minutes.
    """
    env = {**os.environ, **dict.fromkeys(THREADS, "1")}
    env["PYTHONPATH"] = os.pathsep.join([str(common.ROOT / "src"), str(common.ROOT)])
    env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    with tempfile.TemporaryDirectory() as scratch:
        words = [side, name, str(steps), str(seed), scratch]
        output = Path(scratch) / "output"
        with output.open("w") as out:
            begun = time.time()
            process = psutil.Popen(
                [python, "-m", "tests.benchmarks.peers_sides", *words],
                env=env,
                cwd=common.ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            processor_s, memory = _watched(process, begun + TURN_S)
        text = output.read_text()
    told = [line for line in text.splitlines() if line.startswith('{"begun"')]
    if process.returncode or not told:
        last = next((x for x in reversed(text.splitlines()) if x.strip()), "")
        raise SystemExit(f"exit {process.returncode}: {last[-300:]}")
    said = json.loads(told[-1])
    reached = said["reached"]
    return Took(
        name,
        side,
        seed,
        said["steps"] / (said["ended"] - said["begun"]),
        reached - begun if reached else math.inf,
        processor_s,
        memory,
        said["mean"],
    )


def _watched(process: psutil.Popen, until: float) -> tuple[float, float]:
    """Processor seconds and largest memory in MiB of a process and all that it starts.

    Pages that processes share count once for each (RSS): few sides have more than one process.
    """
    seconds: dict[int, float] = {}
    largest = 0.0
    known: dict[int, psutil.Process] = {process.pid: process}
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            known |= {child.pid: child for child in process.children(recursive=True)}
        memory = 0.0
        for pid, each in known.items():
            with contextlib.suppress(psutil.Error):
                used = each.cpu_times()
                seconds[pid] = used.user + used.system
                memory += each.memory_info().rss / 2**20
        largest = max(largest, memory)
        if time.time() > until:
            for each in known.values():
                with contextlib.suppress(psutil.Error):
                    each.kill()
        time.sleep(LOOK_S)
    return sum(seconds.values()), largest


def middle(turns: Iterable[Took], column: str) -> float:
    """The median of a column; the mean of returns. Never reached counts as infinitely late."""
    values = [float(getattr(each, column)) for each in turns]
    return statistics.mean(values) if column == "mean_return" else statistics.median(values)


def show(found: list[Took], left_out: dict[tuple[str, str], str]) -> None:
    """Print a table for each world, and where drillyard is not first."""
    for name in WORLDS:
        sides = {side: [t for t in found if (t.world, t.side) == (name, side)] for side in SIDES}
        sides = {side: turns for side, turns in sides.items() if turns}
        if not sides:
            continue
        threshold = WORLDS[name].threshold
        print(f"\n{name}: threshold {threshold:g}, {WORLDS[name].steps:,} steps")
        print("| side | seeds | " + " | ".join(c[0] for c in COLUMNS.values()) + " |")
        print("|---" * (2 + len(COLUMNS)) + "|")
        for side, turns in sides.items():
            cells = [side, str(len(turns))]
            for column, (_, form, _best) in COLUMNS.items():
                value = middle(turns, column)
                cells.append(form.format(value) if math.isfinite(value) else "not reached")
            print("| " + " | ".join(cells) + " |")
        for column, (label, _, best) in COLUMNS.items():
            values = {s: middle(sides[s], column) for s in sides}
            values = {s: value for s, value in values.items() if math.isfinite(value)}
            mine = [value for s, value in values.items() if s in OURS]
            if not mine:
                print(f"{label}: no figure of drillyard's")
                continue
            # Two sides with the same value, such as the best return there is, are both first.
            ahead = [s for s, value in values.items() if best([value, best(mine)]) != best(mine)]
            leader = best(ahead, key=values.__getitem__) if ahead else ""
            reason = FEW if column == "mean_return" else REASONS.get(leader, "")
            why = f", after {leader}: {reason}" if leader else ""
            ours = next(s for s in OURS if values.get(s) == best(mine))
            print(f"{label}: drillyard is number {len(ahead) + 1} ({ours}){why}")
    for (name, side), why in left_out.items():
        print(f"left out: {side} on {name}: {why}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="PPO by several libraries.")
    parser.add_argument("sides", nargs="*", metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="instead of each world's own")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no turn after")
    parser.add_argument("--worlds", nargs="+", choices=[*WORLDS], default=[*WORLDS])
    given = parser.parse_args()
    if unknown := set(given.sides) - SIDES.keys():
        parser.error(f"no such side: {', '.join(unknown)}; there are {', '.join(SIDES)}")
    until = time.time() + 60 * given.minutes
    left_out: dict[tuple[str, str], str] = {}
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"turns-{given.steps or 'whole'}.jsonl"
        lines = kept.read_text().splitlines() if kept.exists() else []
        found = [Took(**json.loads(line)) for line in lines]
        done = {(t.world, t.side, t.seed) for t in found}
        for name in given.worlds:
            for seed in range(1, given.rounds + 1):
                for side in given.sides or SIDES:
                    if (name, side) in left_out or (name, side, seed) in done:
                        continue
                    if time.time() > until:
                        left_out.setdefault((name, side), "no time left; the command continues")
                        continue
                    try:
                        python = python_of(side, folder)
                        if name not in SIDES[side].worlds:
                            continue
                        steps = given.steps or WORLDS[name].steps
                        took = turn(python, name, side, steps, seed)
                    except SystemExit as error:
                        left_out[name, side] = str(error)
                        print(f"{side} on {name}: {error}", flush=True)
                        continue
                    found.append(took)
                    with kept.open("a") as out:
                        out.write(json.dumps(asdict(took)) + "\n")
                    print(took, flush=True)
    show(found, left_out)


if __name__ == "__main__":
    main()
