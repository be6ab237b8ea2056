"""The device of a training: ``resources.device``, and how ``auto`` chooses.

The device changes the numbers of a training, so ``auto`` follows a fixed table, and never a
measurement, which would depend on the load of the machine:

| learner                                                   | device                         |
|-----------------------------------------------------------|--------------------------------|
| torch finds no GPU                                        | cpu                            |
| learns from whole episodes (``ars``)                      | cpu: it computes no gradients  |
| another engine than ``sb3``                               | cuda if ``gpus`` asks for one  |
| observations with images                                  | cuda                           |
| weights x rows of a minibatch at least ``PRODUCTS``       | cuda                           |
| all others                                                | cpu                            |

Stable-Baselines3 gives the same advice for PPO and A2C: the CPU without convolutions. The number
is assumed: a processor takes some milliseconds for a gradient of this size, which is longer than
a GPU needs to be called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from drillyard.documents.json_types import JsonObject
from drillyard.errors import UserError
from drillyard.findings import Finding, warning
from drillyard.learners import sb3_build
from drillyard.learners.barriers import preserved_randomness
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.workload import RunContext
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.engines import PACKAGES, sees_images
from drillyard.spec.algorithms.networks import auto_policy
from drillyard.spec.algorithms.signatures import FROM_EPISODES
from drillyard.spec.learning import LearnerSpec
from drillyard.system import gpu_software

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from drillyard.learners.types import Space
    from drillyard.spec import ExperimentSpec

Device = Literal["cpu", "cuda"]
PRODUCTS = 1 << 25
"""Multiplications of a minibatch from which on a GPU computes: weights times rows."""


class Shape(NamedTuple):
    """What the size of a learner depends on; copies of a simulator have it, too."""

    observation_space: Space
    action_space: Space
    num_envs: int


def usable() -> bool:
    """Whether torch finds a GPU here."""
    return torch.cuda.is_available()


def choose(
    context: RunContext, venv: VecEnv | Shape, checkpoint: Checkpoint | None
) -> tuple[Device, str]:
    """The device of a training, and the reason.

    A resumed training keeps its device. The choice of the user has priority over the table.

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
        misfit = gpu_software.misfit(jax=False)
        raise UserError(
            "resources.device is cuda, and "
            + (misfit or f"torch {torch.__version__} finds no GPU here"),
            hint="set resources.device to auto, or install a torch with CUDA and a driver that "
            "runs it (the guide has a table: Hardware, Drivers)",
        )
    device, why = _chosen(context, learner, venv, checkpoint, has_gpu)
    context.log.info("device: %s (%s)", device, why)
    return device, why


def _chosen(
    context: RunContext,
    learner: LearnerSpec,
    venv: VecEnv | Shape,
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
    return by_table(learner, venv, bool(context.spec.resources.gpus))


def by_table(learner: LearnerSpec, venv: VecEnv | Shape, gpus: bool) -> tuple[Device, str]:
    """The device that the table of this module gives, where there is a GPU, and the reason.

    Args:
        learner: Algorithm, network and batch.
        venv: Only its spaces and its number of copies are read.
        gpus: ``resources.gpus`` asks for one.
    """
    if learner.algorithm in FROM_EPISODES:
        return "cpu", f"{learner.algorithm} computes no gradients"
    if learner.engine in PACKAGES:
        return ("cuda" if gpus else "cpu"), f"resources.gpus, with engine: {learner.engine}"
    if sees_images(venv.observation_space):
        return "cuda", "the observations have images"
    products = multiplications(learner, venv)
    device: Device = "cuda" if products >= PRODUCTS else "cpu"
    side = "at least" if device == "cuda" else "less than"
    return device, f"{products:,} multiplications a minibatch, {side} {PRODUCTS:,}"


def fixed(spec: ExperimentSpec) -> JsonObject:
    """Engine and precision, and why these and the number of threads: no measurement is asked."""
    learner, asks = spec.learner, spec.resources
    assert learner is not None
    why = ("the fixed default", "as the experiment says")
    return {
        "engine": learner.engine,
        "engine_because": why[learner.engine != "sb3"],
        "precision": asks.precision,
        "precision_because": why[asks.precision != "full"],
        "threads_because": why[asks.threads != 1],
    }


def advise(spec: ExperimentSpec, observation: Space, action: Space) -> list[Finding]:
    """Says before anything is rented that the GPU asked for would slow the training, or idle.

    By the number of the table above, whatever the machine. Images are always for the GPU.

    Args:
        spec: An experiment with a built-in learner.
        observation: Observation space of the wrapped simulator.
        action: Its action space.

    Returns:
        One warning at most.
    """
    learner, asks = spec.learner, spec.resources
    if learner is None or spec.train is None or asks.device == "cpu":
        return []
    if not (asks.gpus or asks.device == "cuda") or sees_images(observation):
        return []
    lanes = asks.runs_per_process or 1  # they share a program, and so a call of the GPU
    if learner.algorithm in FROM_EPISODES:
        why = f"{learner.algorithm} computes no gradients"
    else:
        shape = Shape(observation, action, spec.train.n_envs)
        products = multiplications(learner, shape) * lanes
        if products >= PRODUCTS:
            return []
        why = f"{products:,} multiplications a minibatch, less than {PRODUCTS:,}"
    idle = asks.device == "auto" and learner.engine not in PACKAGES
    message = (
        f"device: auto would train on the CPU, and the GPU would be paid for and idle ({why})"
        if idle
        else f"a GPU would probably be slower than the CPU for this network ({why})"
    )
    field = "resources.gpu" if asks.gpu else "resources.gpus" if asks.gpus else "resources.device"
    fix = "remove it" if asks.device == "auto" else "set resources.device to cpu"
    return [warning(field, message, f"{fix}, or use a larger batch or network")]


def multiplications(learner: LearnerSpec, venv: VecEnv | Shape) -> int:
    """The weights of all networks of a learner times the rows of a minibatch.

    Args:
        learner: Algorithm, network and batch.
        venv: Only its spaces and its number of copies are read.
    """
    args = {**ARGUMENTS[learner.algorithm], **learner.args}
    whole = "batch_size" not in args
    rows = int(args["n_steps"]) * venv.num_envs if whole else int(args["batch_size"])
    observation = venv.observation_space
    with preserved_randomness():
        network = sb3_build.untrained_policy(
            learner.algorithm,
            learner.policy or auto_policy(observation, learner.algorithm),
            learner.args,
            observation,
            venv.action_space,
        )
    weights: int = sum(parameter.numel() for parameter in network.parameters())
    return rows * weights
