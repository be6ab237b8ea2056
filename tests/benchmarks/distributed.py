"""IMPALA of RLlib on CartPole: what it reaches, with two workers.

    python -m tests.benchmarks.distributed [SEED ...]

Default: seeds 1 to 3, one after the other. Needs an environment with the extra ``rllib``. A minute
or two a seed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from tests.helpers.specs import small

from . import common

STEPS = 100_000
EPISODES = 50
ARGS = {
    "num_env_runners": 2,
    "vf_loss_coeff": 0.05,
    "entropy_coeff": 0.0,
    "grad_clip": 30.0,
    "fcnet_hiddens": [64, 64],
}


def measure(seed: int) -> tuple[float, dict[str, object]]:
    """Train and evaluate one seed: its mean return, and the summary of the training."""
    from drillyard.mailbox.records import Phase
    from drillyard.testing.phases import OneRun
    from drillyard.workloads.rl import RlWorkload

    spec = small(
        "CartPole-v1",
        learner={"algorithm": "impala", "args": ARGS},
        train={"steps": STEPS, "n_envs": 4},
        evaluate={"episodes": EPISODES},
        seeds=[seed],
    )
    with tempfile.TemporaryDirectory() as folder:
        run = OneRun(Path(folder), spec, RlWorkload())
        summary = run.phase(Phase.TRAIN).summary
        found = run.phase(Phase.EVALUATE).summary["policies"]["agent"]
    return float(found["mean_return"]), summary


def main() -> None:
    """Measure the seeds named on the command line, and print them."""
    rows, returns = [], []
    for seed in [int(a) for a in sys.argv[1:]] or [1, 2, 3]:
        mean, summary = measure(seed)
        returns.append(mean)
        rows.append(
            (
                f"seed {seed}",
                f"{mean:.1f} after {summary['steps']:,} steps at "
                f"{summary['steps_per_s']:.0f} steps/s",
            )
        )
        print(*rows[-1], flush=True)
    rows.append(("mean", f"{statistics.mean(returns):.1f}"))
    common.table(f"IMPALA on CartPole-v1, {EPISODES} episodes", rows)


if __name__ == "__main__":
    main()
