"""The Zoo's side of `tuners`: run by an interpreter of its own, with nothing of drillyard.

Its own `train.py -optimize`; only the sampled values are replaced, so that it searches over the
learning rate alone. `--n-jobs 2` is its own way to have two trials at once.
"""

from __future__ import annotations

import sys

from rl_zoo3 import hyperparams_opt, train


def main() -> None:
    """Search."""
    trials, steps, low, high, episodes, n_steps, batch_size, n_epochs = sys.argv[1:]

    def rate(trial, *_):
        return {"learning_rate": trial.suggest_float("lr", float(low), float(high), log=True)}

    hyperparams_opt.HYPERPARAMS_SAMPLER["ppo"] = rate
    sys.argv = [
        "train.py",
        "--algo",
        "ppo",
        "--env",
        "CartPole-v1",
        "-n",
        steps,
        "-optimize",
        "--n-trials",
        trials,
        "--n-jobs",
        "2",
        "--sampler",
        "random",
        "--pruner",
        "none",
        "--n-evaluations",
        "1",
        "--eval-episodes",
        episodes,
        "--num-threads",
        "1",
        "--device",
        "cpu",
        "--no-optim-plots",
        "-f",
        "zoo",
        "-params",
        "n_envs:1",
        f"n_steps:{n_steps}",
        f"batch_size:{batch_size}",
        f"n_epochs:{n_epochs}",
        "gae_lambda:0.95",
        "gamma:0.99",
        "clip_range:0.2",
    ]
    train.train()
    print(f"finished {trials} trials")


if __name__ == "__main__":
    main()
