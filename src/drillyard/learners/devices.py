"""The device of a training: ``resources.device``, and how ``auto`` chooses.

A small network is faster on the processor: a GPU computes faster, but each call costs time. Which
device is faster depends on algorithm, network and batch, so it is measured: each learns for some
seconds from made-up steps, once for each kind of work of an experiment. The choice is stored.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import gymnasium as gym
import numpy as np
import torch
from pydantic import Field
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from drillyard.agents.spaces import space_to_json
from drillyard.documents.json_types import JsonObject
from drillyard.errors import UserError
from drillyard.learners import sb3_build
from drillyard.learners.barriers import preserved_randomness
from drillyard.learners.types import Env, Info, Observation, Space
from drillyard.mailbox.records import Record
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.workload import RunContext
from drillyard.spec.algorithms.engines import PACKAGES
from drillyard.spec.algorithms.signatures import ARGUMENTS, FROM_EPISODES
from drillyard.spec.learning import LearnerSpec

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

Device = Literal["cpu", "cuda"]
MEASURE_S = 2.0
"""Seconds for each device, after the work that is done only once."""
MARGIN = 1.1
"""A GPU that is faster by less than this factor is not used."""
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
"""Arguments that determine the amount of computation. Populations may vary the others."""


class Measured(Record):
    """``devices/<work>.json``: put-if-absent by the first training that measured this work."""

    device: Device
    steps_per_s: dict[str, float] = Field(default_factory=dict)
    gpu: str = ""
    """Name of the GPU."""


def usable() -> bool:
    """Whether torch finds a GPU here."""
    return torch.cuda.is_available()


def choose(context: RunContext, venv: VecEnv, checkpoint: Checkpoint | None) -> tuple[Device, str]:
    """The device of a training, and the reason.

    A resumed training keeps its device. The choice of the user has priority over a measurement.

    Args:
        context: The context of the training.
        venv: The copies of the simulator; only its spaces are read.
        checkpoint: What the training continues, None to begin.

    Raises:
        UserError: The user chose ``cuda``, and there is no GPU that torch can use.
    """
    learner, requested = context.spec.learner, context.run.device
    assert learner is not None
    has_gpu = usable()
    if requested == "cuda" and not has_gpu:
        raise UserError(
            f"resources.device is cuda, and torch {torch.__version__} finds no GPU here",
            hint="set resources.device to auto, or install a torch with CUDA and a driver",
        )
    device, why = _chosen(context, learner, venv, checkpoint, has_gpu)
    context.log.info("device: %s (%s)", device, why)
    return device, why


def _chosen(
    context: RunContext,
    learner: LearnerSpec,
    venv: VecEnv,
    checkpoint: Checkpoint | None,
    has_gpu: bool,
) -> tuple[Device, str]:
    requested = context.run.device
    if requested != "auto":
        return ("cuda" if requested == "cuda" else "cpu"), "as the experiment says"
    if not has_gpu:
        return "cpu", "torch finds no GPU here"
    if checkpoint is not None:
        began = checkpoint.meta.info.get("device", "cpu")  # older ones: always cpu
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


def _work(learner: LearnerSpec, venv: VecEnv) -> str:
    """A name for the computation: a hash of algorithm, network, batch, spaces and copies."""
    described = {
        "algorithm": learner.algorithm,
        "policy": learner.policy,
        "copies": venv.num_envs,
        "args": {name: learner.args[name] for name in _SIZES if name in learner.args},
        "spaces": [space_to_json(venv.observation_space), space_to_json(venv.action_space)],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def _measured(learner: LearnerSpec, venv: VecEnv) -> Measured:
    with preserved_randomness():
        rates = {name: rate(learner, venv, name, MEASURE_S) for name in ("cpu", "cuda")}
    faster: Device = "cuda" if rates["cuda"] > MARGIN * rates["cpu"] else "cpu"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return Measured(device=faster, gpu=gpu, steps_per_s={n: round(r, 1) for n, r in rates.items()})


def rate(learner: LearnerSpec, venv: VecEnv, device: str, limit_s: float) -> float:
    """Environment steps per second of learning, with a simulator that takes no time.

    Args:
        learner: Algorithm, network and batch.
        venv: Only its spaces and its number of copies are read.
        device: ``cpu`` or ``cuda``.
        limit_s: Seconds to measure; at least one round is measured.
    """
    observation, action = venv.observation_space, venv.action_space
    simulators = DummyVecEnv(
        [lambda: _Invented(observation, action) for _ in range(venv.num_envs)]
    )
    model = sb3_build.build(
        learner.algorithm, learner.policy, _small(learner), simulators, None, device
    )
    watch = _Watch(limit_s)
    try:
        model.learn(2**40, watch)
    except _Enough:
        pass
    finally:
        simulators.close()
        del model
        if device == "cuda":
            torch.cuda.empty_cache()
    return watch.rate


def _small(learner: LearnerSpec) -> JsonObject:
    """The arguments, with a small buffer from which learning starts immediately."""
    defaults, args = ARGUMENTS[learner.algorithm], dict(learner.args)
    if "buffer_size" in defaults:
        batch = int(args.get("batch_size", defaults["batch_size"]))
        size = int(args.get("buffer_size", defaults["buffer_size"]))
        args |= {"buffer_size": min(size, max(BUFFER, batch)), "learning_starts": batch}
    if "exploration_initial_eps" in defaults:  # random actions would not use the network
        args["exploration_initial_eps"] = args.get(
            "exploration_final_eps", defaults["exploration_final_eps"]
        )
    return args


class _Enough(Exception):
    """The measurement took long enough."""


class _Watch(BaseCallback):  # type: ignore[misc]
    """Times whole rounds of collecting and learning, beginning after the first.

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


class _Invented(Env):
    """A simulator that takes no time: it returns a few random observations in turn."""

    def __init__(self, observation: Space, action: Space) -> None:
        self.observation_space, self.action_space = observation, action
        self._observations = [observation.sample() for _ in range(8)]
        self._n = 0

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[Observation, Info]:
        """Returns the first observation."""
        del seed, options
        return self._observations[0], {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, Info]:
        """Returns the next observation; an episode has a fixed number of them."""
        del action
        self._n += 1
        reward = float(self._n % 3)
        observation = self._observations[self._n % 8]
        return observation, reward, False, self._n % EPISODE == 0, {}

    def action_masks(self) -> np.ndarray:
        """All actions are possible."""
        space = self.action_space
        if isinstance(space, gym.spaces.Discrete):
            return np.ones(int(space.n), bool)
        if isinstance(space, gym.spaces.MultiDiscrete):
            return np.ones(int(space.nvec.sum()), bool)
        return np.ones(2 * int(np.prod(space.shape or ())), bool)
