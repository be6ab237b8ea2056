"""PPO on CartPole-v1 by drillyard's engines and by other libraries, in their own environments.

    python -m tests.benchmarks.peers [--rounds N] [--steps N] [--folder F] [SIDE ...]

Each side is a process with one thread, 8 copies, rollouts of 128, minibatches of 256, 10 epochs
and networks of 64 and 64; the sides take turns by whole processes. Printed: steps for each second
from the start of the process to its end, its processor seconds and its largest memory, and the
mean return of 20 episodes of the final policy (rejax: of its own last evaluation). A side that
needs other packages gets a virtual environment below ``--folder`` (default: a temporary one), in
which its packages come before those that run this script; one that cannot be installed is named
and left out. Sample Factory, PufferLib, RLlib and RL Baselines3 Zoo are not sides yet.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

from . import common

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
_ARGS = '{"n_steps": 128, "batch_size": 256, "n_epochs": 10}'
_BEGIN = "import json, sys\nsteps, seed = int(sys.argv[1]), int(sys.argv[2])\n"
_PLAIN = f"""
import torch; torch.set_num_threads(1)
from {{module}} import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
args = {_ARGS}
model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 8, seed), seed=seed, device="cpu",
            policy_kwargs=dict(net_arch=[64, 64]), **args)
model.learn(steps)
print(json.dumps(evaluate_policy(model, make_vec_env("CartPole-v1", 1, 99), 20)[0]))
"""
_OURS = f"""
import numpy, torch; torch.set_num_threads(1); torch.manual_seed(seed); numpy.random.seed(seed)
from drillyard.learners.sb3_build import build
from drillyard.simulators.make import make_vec
from drillyard.spec.learning import SimulatorSpec
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
venv = make_vec(SimulatorSpec(id="CartPole-v1"), 8, seed, how="{{how}}", streams=2)
model = build("ppo", None, {_ARGS}, venv, seed, "cpu", "{{engine}}")
model.learn(steps)
print(json.dumps(evaluate_policy(model, make_vec_env("CartPole-v1", 1, 99), 20)[0]))
"""
_REJAX = """
import jax
from rejax import PPO
ppo = PPO.create(env="CartPole-v1", num_envs=8, num_steps=128, num_epochs=10, num_minibatches=4,
                 learning_rate=3e-4, gamma=0.99, gae_lambda=0.95, clip_eps=0.2, ent_coef=0.0,
                 vf_coef=0.5, max_grad_norm=0.5, total_timesteps=steps, eval_freq=steps,
                 agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"})
_, (_, returns) = jax.jit(ppo.train)(jax.random.PRNGKey(seed))
print(json.dumps(float(returns[-1].mean())))
"""


@dataclass(frozen=True)
class Side:
    """What trains: a program, and the packages that it needs beyond those of this script."""

    code: str
    packages: tuple[str, ...] = ()


SIDES = {
    "stable-baselines3": Side(_PLAIN.replace("{module}", "stable_baselines3")),
    "drillyard sb3": Side(_OURS.replace("{how}", "vectorised").replace("{engine}", "sb3")),
    "drillyard jax": Side(_OURS.replace("{how}", "vectorised").replace("{engine}", "jax")),
    "drillyard compiled": Side(_OURS.replace("{how}", "compiled").replace("{engine}", "jax")),
    "sbx": Side(_PLAIN.replace("{module}", "sbx"), ("sbx-rl",)),
    "rejax": Side(_REJAX, ("rejax==0.1.3", "gymnax==0.0.9")),
}


@dataclass(frozen=True)
class Took:
    """A process of a side."""

    seconds: float
    processor_s: float
    memory_mib: float
    mean_return: float


def python_of(name: str, folder: Path) -> str:
    """The interpreter with a side's packages.

    Raises:
        SystemExit: They cannot be installed.
    """
    packages = SIDES[name].packages
    if not packages:
        return sys.executable
    place = folder / name
    if not place.exists():
        venv.create(place, with_pip=False, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        below = [path for path in sys.path if path.endswith("site-packages")]
        mine = place / "lib" / version / "site-packages"
        (mine / "below.pth").write_text("\n".join([*below, sysconfig.get_paths()["purelib"]]))
    found = str(place / "bin" / "python")
    done = subprocess.run(
        [found, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(packages)}: {done.stderr.strip()[-400:]}")
    return found


def turn(python: str, side: Side, steps: int, seed: int) -> Took:
    """Train once."""
    env = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": str(common.ROOT / "src")}
    env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    begin = time.perf_counter()
    process = subprocess.Popen(
        [python, "-c", _BEGIN + side.code, str(steps), str(seed)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit {process.returncode}")
    took = time.perf_counter() - begin
    mean = float(json.loads(said.splitlines()[-1]))
    return Took(took, _processor(used), used.ru_maxrss / 1024, mean)


def _processor(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="PPO on CartPole-v1 by several libraries.")
    parser.add_argument("sides", nargs="*", metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=102_400)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if unknown := set(given.sides) - SIDES.keys():
        parser.error(f"no such side: {', '.join(unknown)}; there are {', '.join(SIDES)}")
    found: dict[str, list[Took]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(1, given.rounds + 1):
            for name in given.sides or SIDES:
                try:
                    python = python_of(name, given.folder or Path(scratch))
                    took = turn(python, SIDES[name], given.steps, seed)
                except SystemExit as error:
                    print(f"{name} is left out: {error}", flush=True)
                    continue
                found.setdefault(name, []).append(took)
                print(name, took, flush=True)
    rows = []
    for name, all_of_it in found.items():
        middle = [
            statistics.median(getattr(t, f) for t in all_of_it) for f in Took.__annotations__
        ]
        seconds, processor_s, memory, _ = middle
        mean = statistics.mean(t.mean_return for t in all_of_it)
        said = [
            f"{given.steps / seconds:,.0f} steps/s",
            f"{given.steps / processor_s:,.0f} for each second of the processor",
            f"{processor_s:.1f} s of it",
            f"{memory:,.0f} MiB",
            f"return {mean:.0f}",
        ]
        rows.append((name, ", ".join(said)))
    common.table(f"PPO on CartPole-v1, {given.steps} steps, whole processes", rows)


if __name__ == "__main__":
    main()
