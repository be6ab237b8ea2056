"""``engine: jax`` over plain scripts and over ``engine: sb3``, and its update over its products.

    python -m tests.benchmarks.compiled [ROUNDS [ROLLOUTS]]

PPO with the same arguments on all sides, which take turns of some rollouts in one process with
one thread. What is compiled is compiled before the first turn. Times are those of the processor,
which a neighbour's load changes little. *Plain* is what a script with Stable-Baselines3 and
without drillyard does, *plain SBX* the same script with SBX: ``DummyVecEnv`` with a ``Monitor``
around each copy. *Products* are the matrix products of all minibatches of a rollout, forwards and
backwards, compiled alone: no update can take less time than these. *Compiled* is ``engine: jax``
with ``copies: compiled``, whose simulator is part of the program. Needs the extra ``jax``; the
side of SBX needs the extra ``sbx``, and is left out without it.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from drillyard.learners.sb3_build import build
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.algorithms import engines
from drillyard.spec.learning import SimulatorSpec

from . import common

PLAIN_SBX = "plain SBX"
SIDES = ("plain", *([PLAIN_SBX] if find_spec("sbx") else []), "sb3", "jax", "compiled")


@dataclass(frozen=True)
class World:
    """A world with the arguments of PPO on it, and what is aimed at over the plain script."""

    simulator: SimulatorSpec
    n_envs: int
    args: dict[str, Any]
    target: float
    compiled: float
    """What is aimed at with the simulator in the program."""


_SMALL = {"n_steps": 128, "batch_size": 256, "n_epochs": 10}
_REACTOR = {"n_steps": 64, "batch_size": 2048, "n_epochs": 4, "learning_rate": 2e-3}
WORLDS = {
    "CartPole-v1, 8 copies": World(SimulatorSpec(id="CartPole-v1"), 8, _SMALL, 6.0, 12.0),
    "CartPole-v1, 64 copies": World(SimulatorSpec(id="CartPole-v1"), 64, _SMALL, 10.0, 12.0),
    "cstr, 64 copies": World(
        SimulatorSpec(id="cstr", lesson={"Cref_signal": {"values": [1, 2, 3, 4, 5]}}),
        64,
        _REACTOR,
        4.5,
        10.0,
    ),
}


def model_of(side: str, world: World) -> Any:
    """A model that has learned from two rollouts."""
    spec, n = world.simulator, world.n_envs
    if side in ("plain", PLAIN_SBX):
        venv = DummyVecEnv([lambda c=c: Monitor(make_env(spec, copy=c).env) for c in range(n)])
        venv.seed(1)
        model = _kind(side)(
            "MlpPolicy",
            venv,
            seed=1,
            device="cpu",
            **world.args,
            policy_kwargs={"net_arch": [64, 64]},
        )
        model.set_logger(Logger(None, []))
    else:
        way = "compiled" if side == "compiled" else "vectorised"
        venv = make_vec(spec, n, 1, how=way)
        engine = "sb3" if side == "sb3" else "jax"
        model = build("ppo", None, world.args, venv, 1, "cpu", engine)
    model.learn(2 * world.args["n_steps"] * n)
    return model


def _kind(side: str) -> Any:
    if side == "plain":
        return PPO
    import sbx  # not before JAX was told how many threads it has

    return sbx.PPO


def turn(model: Any, rollouts: int) -> float:
    """Steps for each second of the processor."""
    steps = rollouts * model.n_steps * model.n_envs
    begin = time.process_time()
    model.learn(steps, reset_num_timesteps=False)
    return steps / (time.process_time() - begin)


def compare(name: str, world: World, rounds: int, rollouts: int) -> None:
    """Let the sides take turns, and print their rates and ratios."""
    models = {side: model_of(side, world) for side in SIDES}
    found = [{side: turn(models[side], rollouts) for side in SIDES} for _ in range(rounds)]
    rows = [(side, f"{statistics.median(f[side] for f in found):,.0f} steps/s") for side in SIDES]
    for ours, target in (("jax", world.target), ("compiled", world.compiled)):
        for side in SIDES[: SIDES.index(ours)]:
            ratios = [each[ours] / each[side] for each in found]
            aim = f"; aim: at least {target:g}" if side == "plain" else ""
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            rows.append((f"{ours} over {side}", f"{statistics.median(ratios):.2f} {spread}{aim}"))
    update, products = update_over_products(models["jax"], rounds)
    rows.append(
        (
            "update, its products",
            f"{update * 1e3:.1f} ms, {products * 1e3:.1f} ms: "
            f"{update / products:.2f}; aim: at most 2.5",
        )
    )
    common.table(f"PPO on {name}: {world.args}", rows)


def update_over_products(model: Any, rounds: int) -> tuple[float, float]:
    """Processor seconds of an update, and of its matrix products alone."""
    core, rows = model._core, model.batch_size
    order = model._order(model.rollout_buffer.rewards.size)
    features = core.batch(model.rollout_buffer)[0][:rows]
    layers = [
        [core.network.unflatten(core.weights.values)[weight].copy() for weight, _ in part]
        for part in (core.network.actor, core.network.critic)
    ]
    alone = products(len(order))
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for part, work in enumerate((model.train, lambda: np.asarray(alone(layers, features)))):
            begin = time.process_time()
            for _ in range(5):
                work()
            took[part].append((time.process_time() - begin) / 5)
    # The first of each may compile.
    return statistics.median(took[0][1:]), statistics.median(took[1][1:])


def products(minibatches: int) -> Any:
    """A compiled function of (weights of the layers of each network, rows of a minibatch)."""
    import jax
    from jax import lax

    hold = lax.optimization_barrier  # nothing is hoisted, merged or left out

    def one(carried: Any, _: Any, given: Any) -> Any:
        (networks, rows), carried = hold((given, carried))
        made = []
        for weights in networks:
            seen = [rows]
            for weight in weights:
                seen.append(hold(seen[-1] @ weight.T))
            back = seen[-1]
            for position in reversed(range(len(weights))):
                made.append(back.T @ seen[position])
                if position:
                    back = hold(back @ weights[position])
        return carried + sum(each[0, 0] for each in hold(made)) * 1e-30, None

    def all_of_them(networks: Any, rows: Any) -> Any:
        begin = jax.numpy.float32(0)
        step = lambda carried, _: one(carried, _, (networks, rows))  # noqa: E731
        return lax.scan(step, begin, None, length=minibatches)[0]

    return jax.jit(all_of_them)


def main() -> None:
    """Print the tables."""
    given = [int(word) for word in sys.argv[1:]]
    rounds, rollouts = [*given, *(3, 4)[len(given) :]]
    torch.set_num_threads(1)
    engines.prepare(1)
    if PLAIN_SBX not in SIDES:
        print("SBX is not installed, and is left out: pip install 'drillyard[sbx]'")
    for name, world in WORLDS.items():
        compare(name, world, rounds, rollouts)


if __name__ == "__main__":
    main()
