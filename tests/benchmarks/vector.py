"""The reactor, 64 copies at once: steps/s over those of a single one, and of PPO over plain SB3.

    python -m tests.benchmarks.vector [seeds [steps]]

Processor time of one thread, both sides in turn in one process. Plain is what a script without
drillyard does: Stable-Baselines3's ``DummyVecEnv`` with a ``Monitor`` around each copy. Both sides
have the same arguments and are evaluated on the same episodes.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from drillyard.evaluation.episodes import Planned, run_episodes
from drillyard.simulators.cstr import CstrEnv
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec
from drillyard.statistics import mean_interval

N, ROUNDS = 64, 5
SPEC = SimulatorSpec(id="cstr", lesson={"Cref_signal": {"values": [1, 2, 3, 4, 5]}})
COMMON: dict[str, Any] = {"n_steps": 64, "gamma": 0.95, "device": "cpu"}
SETTINGS: dict[str, dict[str, Any]] = {
    "half a rollout a minibatch": {"batch_size": 2048, "n_epochs": 4, "learning_rate": 2e-3},
    "a quarter": {"batch_size": 1024, "n_epochs": 5, "learning_rate": 1e-3},
}
"""The learner, the same on both sides, is what bounds the ratio: with dear updates it is lower."""


def single() -> float:
    """Steps/s of one copy."""
    env, steps, rng = CstrEnv(), 0, np.random.default_rng(0)
    actions = rng.uniform(-0.3, 0.3, (91, 1)).astype(np.float32)
    begin = time.process_time()
    for signal in range(1, 6):
        env.reset(seed=signal, options={"Cref_signal": signal})
        for action in actions:
            env.step(action)
            steps += 1
    return steps / (time.process_time() - begin)


def at_once() -> float:
    """Steps/s of all copies together, as the learner steps them."""
    venv = make_vec(SPEC, N, 0, how="vectorised")
    venv.reset()
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.3, 0.3, (900, N, 1)).astype(np.float32)
    for action in actions[:91]:
        venv.step(action)  # compiled by then
    begin = time.process_time()
    for action in actions[91:]:
        venv.step(action)
    return N * (len(actions) - 91) / (time.process_time() - begin)


def learn(venv: Any, seed: int, steps: int, settings: dict[str, Any]) -> tuple[float, float]:
    """Steps/s of PPO, and its mean return on fixed episodes."""
    model = PPO("MlpPolicy", venv, seed=seed, **COMMON, **settings)
    model.set_logger(Logger(None, []))  # its own leaves an empty folder
    begin = time.process_time()
    model.learn(steps)
    rate = steps / (time.process_time() - begin)
    planned = [Planned(i, 500 + i, {"Cref_signal": 1 + i % 5}) for i in range(20)]
    raw = SimulatorSpec(id="cstr")
    played = run_episodes(raw, lambda seen: model.predict(seen, deterministic=True)[0], planned)
    return rate, float(np.mean([e.episode_return for e in played.episodes]))


def main() -> None:
    """Print the ratios."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 163_840
    torch.set_num_threads(1)
    pairs = [(single(), at_once()) for _ in range(ROUNDS)]
    ratios = [b / a for a, b in pairs]
    one, all_ = (statistics.median(side) for side in zip(*pairs, strict=True))
    spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    print(f"steps/s: one {one:,.0f}, {N} at once {all_:,.0f}; ratio {spread}", flush=True)
    for name, settings in SETTINGS.items():
        print(f"PPO, {name}: {settings}", flush=True)
        compare(settings, range(1, seeds + 1), steps, all_)


def compare(settings: dict[str, Any], seeds: range, steps: int, all_: float) -> None:
    """Train on both sides with each seed, and print what it took and brought."""
    found = []
    for seed in seeds:
        plain = DummyVecEnv([lambda c=c: Monitor(make_env(SPEC, copy=c).env) for c in range(N)])
        plain.seed(seed)
        theirs = learn(plain, seed, steps, settings)
        ours = learn(make_vec(SPEC, N, seed, how="vectorised"), seed, steps, settings)
        found.append((theirs, ours))
        sides = [f"{rate:,.0f} steps/s, return {score:.1f}" for rate, score in (theirs, ours)]
        print(
            f"seed {seed}: plain {sides[0]}; at once {sides[1]}; ratio {ours[0] / theirs[0]:.2f}",
            flush=True,
        )
    ratio = statistics.median(ours[0] / theirs[0] for theirs, ours in found)
    plain_us, ours_us = (statistics.median(1e6 / side[i][0] for side in found) for i in (0, 1))
    # A simulator that costs nothing would leave the learner, which is the same on both sides.
    ceiling = plain_us / (ours_us - 1e6 / all_)
    print(
        f"PPO: ratio {ratio:.2f}; with a simulator that takes no time {ceiling:.2f}: of "
        f"{ours_us:.1f} us a step the simulators take {1e6 / all_:.1f}, of {plain_us:.1f} plain "
        f"{plain_us - ours_us + 1e6 / all_:.1f}"
    )
    for side, name in enumerate(("plain", "at once")):
        returns = [pair[side][1] for pair in found]
        low, high = mean_interval(returns) or (min(returns), max(returns))
        print(f"return {name}: {statistics.mean(returns):.1f} ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
