"""What the recording of episodes costs a training, as a part of its time.

A training with it and one without differ by less than they vary. So its cost is measured by
itself: the time of a step of a simulator that does nothing, with and without it, in alternating
rounds. This is divided by the time of a training step, measured in the same call. All times are
those of the processor, so that other programs change them little.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import A2C, PPO

from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec
from drillyard.system import episode_memory
from tests.helpers.steady_world import Steady

ROUNDS, STEPS, TRAINED = 9, 10_000, 4_096


class Nothing(Steady):
    """Does nothing in episodes of a given length."""

    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, length: int) -> None:
        self.length, self.seen = length, np.zeros(4, np.float32)

    def look(self) -> Any:
        return self.seen


def step_s(length: int, folder: Path | None) -> float:
    """Seconds of the processor for a step."""
    episode_memory.keep_in(folder)
    env = make_env(
        SimulatorSpec.model_validate({"id": f"{__name__}:Nothing", "args": {"length": length}})
    )
    action = np.zeros(2, np.float32)
    env.reset(seed=1)
    began = time.process_time()
    for _ in range(STEPS):
        if env.step(action)[3]:
            env.reset()
    spent = time.process_time() - began
    env.close()
    episode_memory.keep_in(None)
    return spent / STEPS


def training_s(kind: Any, simulator: str, n_envs: int) -> float:
    """Seconds of the processor for a training step."""
    venv = make_vec(SimulatorSpec.model_validate({"id": simulator}), n_envs, 1)
    model = kind("MlpPolicy", venv, seed=1, device="cpu")
    began = time.process_time()
    model.learn(TRAINED)
    spent = time.process_time() - began
    venv.close()
    return spent / model.num_timesteps


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        costs = {}
        for length in (10, 200):
            pairs = [(step_s(length, Path(scratch)), step_s(length, None)) for _ in range(ROUNDS)]
            costs[length] = statistics.median(on - off for on, off in pairs)
            print(f"episodes of {length} steps: {costs[length] * 1e6:.2f} microseconds a step")
        for kind, simulator, n_envs, length in (
            (PPO, "CartPole-v1", 1, 200),
            (PPO, "CartPole-v1", 8, 200),
            (A2C, "CartPole-v1", 8, 200),
            (PPO, "FrozenLake-v1", 8, 10),
            (PPO, "cstr", 8, 200),
        ):
            one = training_s(kind, simulator, n_envs)
            share = costs[length] / one
            print(
                f"{kind.__name__} on {simulator}, {n_envs} copies: {one * 1e6:.0f} microseconds a "
                f"training step, of which recording is {share:.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
