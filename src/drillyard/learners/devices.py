"""Where a training computes: ``resources.device``, and what ``auto`` comes to.

A small network is faster on the processor: what a GPU wins in arithmetic it loses by being asked.
Which is faster depends on algorithm, network and batch, so it is measured: both learn for some
seconds from invented steps, once for each such work of an experiment, and the choice is kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from pydantic import Field
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from drillyard.agents.spaces import space_to_json
from drillyard.errors import UserError
from drillyard.learners import sb3_build
from drillyard.learners.barriers import preserved_randomness
from drillyard.mailbox.records import Record
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.phases import RunContext
from drillyard.spec.algorithms.engines import PACKAGES
from drillyard.spec.algorithms.signatures import ARGUMENTS, FROM_EPISODES
from drillyard.spec.learning import LearnerSpec

Device = Literal["cpu", "cuda"]
MEASURE_S = 2.0
"""For each device, after what is only done once."""
MARGIN = 1.1
"""A GPU that is faster by less than this is left to others."""
EPISODE = 100
BUFFER = 20_000
_SIZES = (
    "policy_kwargs",
    "batch_size",
    "n_steps",
    "n_epochs",
    "train_freq",
    "gradient_steps",
    "cg_max_steps",
    "n_critic_updates",
)
"""Arguments that say how much is computed. Others may differ: populations vary them."""


class Measured(Record):
    """``devices/<work>.json``: put-if-absent by the first training that measured this work."""

    device: Device
    steps_per_s: dict[str, float] = Field(default_factory=dict)
    gpu: str = ""
    """Which one it was."""


def usable() -> bool:
    """Whether torch finds a GPU here."""
    return torch.cuda.is_available()


def choose(context: RunContext, venv: Any, checkpoint: Checkpoint | None) -> tuple[Device, str]:
    """The device of a training, and why.

    A resumed training stays where it was. The choice of a person comes before a measurement.

    Args:
        context: Of the training.
        venv: The copies of the simulator; asked for its spaces only.
        checkpoint: What it goes on from.

    Raises:
        UserError: ``cuda`` was asked for, and there is no GPU that torch can use.
    """
    learner, asked = context.spec.learner, context.run.device
    assert learner is not None
    there = usable()
    if asked == "cuda" and not there:
        raise UserError(
            f"resources.device is cuda, and torch {torch.__version__} finds no GPU here",
            hint="set resources.device to auto, or install a torch with CUDA and a driver",
        )
    device, why = _chosen(context, learner, venv, checkpoint, there)
    context.log.info("device: %s (%s)", device, why)
    return device, why


def _chosen(
    context: RunContext,
    learner: LearnerSpec,
    venv: Any,
    checkpoint: Checkpoint | None,
    there: bool,
) -> tuple[Device, str]:
    asked = context.run.device
    if asked != "auto":
        return ("cuda" if asked == "cuda" else "cpu"), "as the experiment says"
    if not there:
        return "cpu", "torch finds no GPU here"
    if checkpoint is not None:
        began = checkpoint.meta.info.get("device", "cpu")  # older ones were all made there
        return ("cpu" if began == "cpu" else "cuda"), "where it began"
    if learner.algorithm in FROM_EPISODES:
        return "cpu", f"{learner.algorithm} computes no gradients"
    if learner.engine in PACKAGES:
        device: Device = "cuda" if context.spec.resources.gpus else "cpu"
        return device, f"resources.gpus; engine: {learner.engine} is not measured"
    key = f"devices/{_work(learner, venv)}.json"
    known = context.mailbox.read(key, Measured)
    if known is None:
        context.mailbox.create(key, _measured(learner, venv))
        known = context.mailbox.read(key, Measured)
        assert known is not None
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in known.steps_per_s.items())
    return known.device, f"measured steps/s: {rates}"


def _work(learner: LearnerSpec, venv: Any) -> str:
    """Names what is computed: algorithm, network, batch, spaces, copies."""
    told = {
        "algorithm": learner.algorithm,
        "policy": learner.policy,
        "copies": venv.num_envs,
        "args": {name: learner.args[name] for name in _SIZES if name in learner.args},
        "spaces": [space_to_json(venv.observation_space), space_to_json(venv.action_space)],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _measured(learner: LearnerSpec, venv: Any) -> Measured:
    with preserved_randomness():
        rates = {name: rate(learner, venv, name, MEASURE_S) for name in ("cpu", "cuda")}
    found: Device = "cuda" if rates["cuda"] > MARGIN * rates["cpu"] else "cpu"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return Measured(device=found, gpu=gpu, steps_per_s={n: round(r, 1) for n, r in rates.items()})


def rate(learner: LearnerSpec, venv: Any, device: str, limit_s: float) -> float:
    """Environment steps a second of learning, where the simulator takes no time.

    Args:
        learner: Algorithm, network and batch.
        venv: Asked for its spaces and the number of copies only.
        device: ``cpu`` or ``cuda``.
        limit_s: It is measured for this long, and at least for one round.
    """
    seen, acted = venv.observation_space, venv.action_space
    worlds = DummyVecEnv([lambda: _Invented(seen, acted) for _ in range(venv.num_envs)])
    model = sb3_build.build(
        learner.algorithm, learner.policy, _small(learner), worlds, None, device
    )
    watch = _Watch(limit_s)
    try:
        model.learn(2**40, watch)
    except _Enough:
        pass
    finally:
        worlds.close()
        del model
        if device == "cuda":
            torch.cuda.empty_cache()
    return watch.rate


def _small(learner: LearnerSpec) -> dict[str, Any]:
    """The arguments, with a small buffer that is learned from at once."""
    defaults, args = ARGUMENTS[learner.algorithm], dict(learner.args)
    if "buffer_size" in defaults:
        batch = int(args.get("batch_size", defaults["batch_size"]))
        size = int(args.get("buffer_size", defaults["buffer_size"]))
        args |= {"buffer_size": min(size, max(BUFFER, batch)), "learning_starts": batch}
    if "exploration_initial_eps" in defaults:  # by chance, the network would not be asked
        args["exploration_initial_eps"] = args.get(
            "exploration_final_eps", defaults["exploration_final_eps"]
        )
    return args


class _Enough(Exception):
    """It was measured for long enough."""


class _Watch(BaseCallback):  # type: ignore[misc]
    """Times whole rounds of collecting and learning, from the end of the first on.

    Args:
        limit_s: See ``rate``.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.rate = 0.0
        self._limit_s, self._clock = limit_s, clock
        self._begin: tuple[int, float] | None = None

    def _on_rollout_start(self) -> None:
        if not self.model._n_updates:
            return
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        now = self._clock()
        if self._begin is None:
            self._begin = (self.num_timesteps, now)
            return
        steps, passed = self.num_timesteps - self._begin[0], now - self._begin[1]
        if passed >= self._limit_s:
            self.rate = steps / max(passed, 1e-9)
            raise _Enough

    def _on_step(self) -> bool:
        return True


class _Invented(gym.Env[Any, Any]):
    """A world that takes no time: a few observations by chance, in turn."""

    def __init__(self, observation: gym.Space[Any], action: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation, action
        self._seen = [observation.sample() for _ in range(8)]
        self._n = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """An observation."""
        del seed, options
        return self._seen[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The next one; an episode has a fixed number of them."""
        del action
        self._n += 1
        reward = float(self._n % 3)
        return self._seen[self._n % 8], reward, False, self._n % EPISODE == 0, {}

    def action_masks(self) -> np.ndarray:
        """All actions are possible."""
        space: Any = self.action_space
        if isinstance(space, gym.spaces.Discrete):
            return np.ones(int(space.n), bool)
        if isinstance(space, gym.spaces.MultiDiscrete):
            return np.ones(int(space.nvec.sum()), bool)
        return np.ones(2 * int(np.prod(space.shape)), bool)
