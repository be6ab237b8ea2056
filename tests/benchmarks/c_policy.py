"""An exported policy in C: `python -m tests.benchmarks.c_policy BUNDLE`.

BUNDLE is the folder of `drillyard export --to c`. For each C compiler here and each level of
optimisation it prints the largest difference of an action to the bundle's ONNX on 10,000
observations (around the test vectors, in units of half the action's range), how many of these
actions are inside their limits, the size of the compiled object and the time of a step.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from drillyard.policies.act import Policy, rescaled
from drillyard.policies.c_loader import CompiledPolicy

STEPS = 10_000


def main() -> None:
    """Prints one line for each compiler and level."""
    folder = Path(sys.argv[1])
    described = json.loads((folder / "spaces.json").read_text())
    seen = json.loads((folder / "bundle.json").read_text())["seen"]
    channels, space = described["channels"]["observation"], described["observation"]
    low, high = (np.array([seen[c["name"]][side] for c in channels]) for side in (0, 1))
    with open(folder / "test_vectors.csv") as file:
        rows = [[float(row[c["name"]]) for c in channels] for row in csv.DictReader(file)]
    rng = np.random.default_rng(1)
    values = rng.choice(np.array(rows), STEPS) + rng.normal(0, 0.02, (STEPS, len(low))) * (
        high - low
    )
    observations = rescaled(values, channels, space, True).astype(np.float32)
    policy = Policy(folder)
    inside = np.abs(policy.act(observations)) < np.array(described["action"]["high"])
    print(f"{inside.mean():.0%} of the actions are inside their limits")
    half = (np.array(described["action"]["high"]) - np.array(described["action"]["low"])) / 2
    for command in filter(None, map(shutil.which, ("gcc", "clang"))):
        for level in ("-O0", "-O1", "-O2", "-O3"):
            with tempfile.TemporaryDirectory() as scratch:
                for name in ("policy.c", "policy.h"):
                    shutil.copy(folder / name, scratch)
                program = CompiledPolicy(
                    Path(scratch), described, command, ("-std=c99", level, "-shared", "-fPIC")
                )
                policy.begin()
                program.begin()
                apart = max(
                    float(np.abs((policy.act(o) - program.act(o)) / half).max())
                    for o in observations
                )
                source, out = f"{scratch}/policy.c", f"{scratch}/policy.o"
                subprocess.run([command, "-std=c99", level, "-c", source, "-o", out], check=True)
                size = Path(out).stat().st_size
            name, step_us = Path(command).name, _step_s(program, values[0]) * 1e6
            print(f"{name} {level}: difference {apart:.1e}, {size / 1e3:.1f} kB, {step_us:.1f} µs")


def _step_s(program: CompiledPolicy, values: np.ndarray) -> float:
    """The fastest of five series."""
    out = np.zeros(len(program.spaces["channels"]["action"]))
    given = [values.ctypes, out.ctypes]
    given += [program._memory.ctypes] if program.spaces.get("memory") else []
    series = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(1000):
            program._act(*given)
        series.append((time.perf_counter() - start) / 1000)
    return min(series)


if __name__ == "__main__":
    main()
