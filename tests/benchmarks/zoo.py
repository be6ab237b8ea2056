"""Two seeds side by side against two RL Baselines3 Zoo runs side by side, defaults on both sides.

    python -m tests.benchmarks.zoo VENV [rounds]

VENV is a virtual environment with ``rl_zoo3`` (`pip install rl_zoo3`), never drillyard's own.
Same algorithm (PPO), hyperparameters (the zoo's for CartPole-v1) and world; each side keeps its
own default number of threads. Steps/s are those of training: steps over the time from the first
step to the last, summed over the two runs.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from . import common

STEPS = 100_000
EXPERIMENT = """\
schema: 1
name: {name}
simulator: {{id: CartPole-v1}}
learner:
  algorithm: ppo
  preset: null
  args: {{n_steps: 32, batch_size: 256, gae_lambda: 0.8, gamma: 0.98, n_epochs: 20,
         ent_coef: 0.0, learning_rate: lin_0.001, clip_range: lin_0.2}}
train: {{steps: {steps}, n_envs: 8}}
evaluate: {{episodes: 5}}
seeds: [1, 2]
"""


def zoo(venv: Path, folder: Path) -> float:
    """Summed steps/s of two zoo runs side by side."""
    runs = [
        subprocess.Popen(
            [
                str(venv / "bin" / "python"),
                "-m",
                "rl_zoo3.train",
                "--algo",
                "ppo",
                "--env",
                "CartPole-v1",
                "-n",
                str(STEPS),
                "--seed",
                str(seed),
                "--eval-freq",
                "-1",
                "-f",
                str(folder / f"zoo-{seed}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
        for seed in (1, 2)
    ]
    total = 0.0
    for run in runs:
        output = run.communicate()[0]
        rates = re.findall(r"fps\s*\|\s*([\d.]+)", output)
        if run.returncode or not rates:
            raise SystemExit(output[-3000:])
        # The zoo prints steps over the time since the start of learning: the last is the whole.
        total += float(rates[-1])
    return total


def ours(folder: Path, n: int) -> float:
    """Summed steps/s of two seeds of one experiment."""
    name = f"zoo-{n}"
    (folder / f"{name}.yaml").write_text(EXPERIMENT.format(name=name, steps=STEPS))
    common.drillyard(folder, "run", f"{name}.yaml")
    return sum(run["steps_per_s"] for run in common.results(folder, name)["runs"])


def main() -> None:
    venv = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in range(rounds):
            theirs, mine = zoo(venv, folder), ours(folder, n)
            ratios.append(mine / theirs)
            rows.append(
                (
                    f"round {n}",
                    f"zoo {theirs:7.0f}   drillyard {mine:7.0f}   ratio {mine / theirs:5.2f}",
                )
            )
    rows.append(("median ratio", f"{statistics.median(ratios):5.2f}"))
    common.table("steps/s summed over two runs side by side, PPO on CartPole-v1", rows)


if __name__ == "__main__":
    main()
