"""The yardstick: what a user would write with Stable-Baselines3 alone.

Prints `<steps> <epoch seconds>` at each rollout boundary, and its own steps/s last.
"""

from __future__ import annotations

import json
import sys
import time

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger

from drillyard.simulators import register_gymnasium


class Lesson(gymnasium.Wrapper):
    """Draws the reference signal at each episode, as the experiment's lesson does."""

    def reset(self, *, seed=None, options=None):
        signal = int(self.unwrapped.np_random.integers(1, 6))
        return self.env.reset(seed=seed, options={"Cref_signal": signal, **(options or {})})


class Marks(BaseCallback):
    """Tells the time at each rollout boundary; without evaluations it is the only callback."""

    def _on_rollout_start(self) -> None:
        print(self.model.num_timesteps, time.time(), flush=True)

    def _on_step(self) -> bool:
        return True


def main() -> None:
    steps, every, seed = (int(a) for a in sys.argv[1:4])
    torch.set_num_threads(1)
    register_gymnasium()
    make = {"env_id": "drillyard/Cstr-v0", "wrapper_class": Lesson}
    env = make_vec_env(n_envs=8, seed=seed, **make)
    callback: BaseCallback = Marks()
    if every:
        callback = EvalCallback(
            make_vec_env(n_envs=1, seed=seed + 1000, **make),
            eval_freq=every // 8,
            n_eval_episodes=10,
            verbose=0,
            best_model_save_path="best",
        )
    model = PPO("MlpPolicy", env, n_steps=512, batch_size=256, seed=seed, device="cpu")
    model.set_logger(Logger(None, []))  # its own leaves an empty folder
    start = time.perf_counter()
    model.learn(steps, callback=callback)
    seconds = time.perf_counter() - start
    model.save("final")
    print(
        json.dumps(
            {
                "steps": model.num_timesteps,
                "learn_s": seconds,
                "steps_per_s": model.num_timesteps / seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
