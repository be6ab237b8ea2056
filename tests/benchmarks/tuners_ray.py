"""Ray Tune's side of `tuners`: run by an interpreter of its own, with nothing of drillyard."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray import init, tune


def objective(config: dict) -> None:
    """One trial."""
    import gymnasium
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy",
        Monitor(gymnasium.make("CartPole-v1")),
        learning_rate=config["lr"],
        n_steps=config["n_steps"],
        batch_size=config["batch_size"],
        n_epochs=config["n_epochs"],
        device="cpu",
    )
    model.learn(config["steps"])
    world = Monitor(gymnasium.make("CartPole-v1"))
    tune.report({"return": evaluate_policy(model, world, config["episodes"])[0]})


def main() -> None:
    """Search."""
    os.environ.update(RAY_worker_niceness="0")  # 15 by default: slower beside anything else
    trials, steps, low, high, episodes, n_steps, batch_size, n_epochs = sys.argv[1:]
    init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    found = tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        param_space={
            "lr": tune.loguniform(float(low), float(high)),
            "steps": int(steps),
            "episodes": int(episodes),
            "n_steps": int(n_steps),
            "batch_size": int(batch_size),
            "n_epochs": int(n_epochs),
        },
        tune_config=tune.TuneConfig(
            num_samples=int(trials), metric="return", mode="max", max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(storage_path=str(Path.cwd() / "ray"), verbose=0),
    ).fit()
    print("best", found.get_best_result().metrics["return"])
    print(f"finished {len(found) - found.num_errors} trials")


if __name__ == "__main__":
    main()
