"""A search of 16 trials against Ray Tune and RL Baselines3 Zoo's `-optimize`, whole wall time.

    python -m tests.benchmarks.tuners [--ray PYTHON] [--zoo PYTHON] [--trials 16] [--steps 8192]

PYTHON is an interpreter with ``ray[tune]`` and ``stable-baselines3``, or with ``rl_zoo3``; never
drillyard's own. On all sides a trial draws a learning rate by chance, trains PPO on CartPole-v1
with the same settings and one thread, and takes the mean return of ten episodes; two go side by
side. The time is that of the whole command, from its start until it has ended, with whatever each
side does besides: drillyard's has Prefect, MLflow, stored results and the report in it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.common import HERE, drillyard, results, table, timed

LOW, HIGH = 1e-4, 1e-3
SETTINGS = {"n_steps": 512, "batch_size": 128, "n_epochs": 10}
EPISODES = 10
EXPERIMENT = """\
schema: 1
name: tuners
simulator: {{id: CartPole-v1}}
learner: {{algorithm: ppo, preset: null, args: {{{settings}, learning_rate: $lr}}}}
train: {{steps: {steps}}}
evaluate: {{episodes: {episodes}}}
baselines: []
resources: {{workers: 2, threads: 1, device: cpu}}
parameters:
  tunables:
    net: {{params: {{lr: {{type: float, range: [{low}, {high}], log: true, default: {low}}}}}}}
  tunable_params: [net]
study: {{chooser: random, trials: {trials}, defaults_first: false, confirm: 0}}
"""


def ours(folder: Path, trials: int, steps: int) -> float:
    """Seconds of `drillyard run`."""
    settings = ", ".join(f"{k}: {v}" for k, v in SETTINGS.items())
    (folder / "tuners.yaml").write_text(
        EXPERIMENT.format(
            settings=settings,
            steps=steps,
            episodes=EPISODES,
            low=LOW,
            high=HIGH,
            trials=trials,
        )
    )
    seconds = drillyard(folder, "run", "tuners.yaml").seconds
    print(f"drillyard: {seconds:.1f} s", file=sys.stderr, flush=True)
    done = [t for t in results(folder, "tuners")["trials"] if t["status"] == "SUCCEEDED"]  # type: ignore[attr-defined]
    if len(done) != trials:
        raise SystemExit(f"drillyard finished {len(done)} of {trials} trials")
    return seconds


def theirs(python: str, script: str, folder: Path, trials: int, steps: int) -> float:
    """Seconds of the script of another program, which says how many trials it finished."""
    words = [trials, steps, LOW, HIGH, EPISODES, *SETTINGS.values()]
    found = timed([python, str(HERE / script), *map(str, words)], folder)
    print(f"{script}: {found.seconds:.1f} s", file=sys.stderr, flush=True)
    if f"finished {trials} trials" not in found.output:
        raise SystemExit(f"{script} did not finish {trials} trials:\n{found.output[-3000:]}")
    return found.seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray")
    parser.add_argument("--zoo")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8192)
    options = parser.parse_args()
    size = options.trials, options.steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine = ours(folder, *size)
        rows = [("drillyard", f"{mine:.1f} s")]
        for title, python, script in (
            ("Ray Tune", options.ray, "tuners_ray.py"),
            ("RL Zoo -optimize", options.zoo, "tuners_zoo.py"),
        ):
            if python is None:
                continue
            other = theirs(python, script, folder, *size)
            rows.append((title, f"{other:.1f} s"))
            rows.append((f"drillyard over {title} (0.8 wanted)", f"{mine / other:.2f}"))
    table(f"{size[0]} trials of {size[1]:,} steps, PPO on CartPole-v1, whole wall time", rows)


if __name__ == "__main__":
    main()
