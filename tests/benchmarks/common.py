"""What the benchmark scripts share: an experiment, the same training in a plain script, a clock.

Every figure is a ratio or a difference of two things measured in one run of a script, printed as
a table; nothing here asserts a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent

EXPERIMENT = """\
schema: 1
name: {name}
simulator: {{id: cstr, lesson: {{Cref_signal: {{values: [1, 2, 3, 4, 5]}}}}}}
learner: {{algorithm: ppo, preset: null, args: {{n_steps: 512, batch_size: 256}}}}
train: {{steps: {steps}, n_envs: 8}}
evaluate: {{episodes: 10, every: {{steps: {every}, episodes: 10}}}}
seeds: {seeds}
baselines: []
resources: {{workers: 2, threads: 1, device: cpu}}
tracking: {{mlflow: auto, tensorboard: true}}
"""

PLAIN = HERE / "plain_script.py"


@dataclass
class Timed:
    """A finished command."""

    seconds: float
    output: str


def timed(command: list[str], folder: Path, **env: str) -> Timed:
    """Run a command to its end and take the time of the whole process."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return Timed(seconds, done.stdout)


def plain(folder: Path, steps: int, every: int, seed: int = 1) -> Timed:
    """The same training as ``EXPERIMENT`` with nothing but Stable-Baselines3."""
    return timed([sys.executable, str(PLAIN), str(steps), str(every), str(seed)], folder)


def drillyard(folder: Path, *args: str, **env: str) -> Timed:
    """A drillyard command."""
    return timed([str(BIN / "drillyard"), *args], folder, **env)


def results(folder: Path, name: str) -> dict[str, object]:
    """``drillyard results NAME --json``."""
    found: dict[str, object] = json.loads(drillyard(folder, "results", name, "--json").output)
    return found


def table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print rows under a title."""
    width = max(len(r[0]) for r in rows)
    print(f"\n{title}")
    for label, value in rows:
        print(f"  {label:<{width}}  {value}")
