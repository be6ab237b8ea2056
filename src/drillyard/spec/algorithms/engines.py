"""``learner.engine``: the library that computes an algorithm. Needs neither torch nor JAX.

``jax`` is drillyard's own compiled learner, see ``jax_arguments``. SBX has Stable-Baselines3's
algorithms in JAX, and its arguments, but not all of them: what it lacks, or takes and does not
use, is refused by name. ``tests/contract/test_sbx.py`` holds the table against the installed
signatures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import nearest
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms import jax_arguments
from drillyard.spec.algorithms.signatures import ARGUMENTS, OURS
from drillyard.spec.learning import LearnerSpec
from drillyard.system.optional_packages import install

JAX, SBX = "jax", "sbx"
PACKAGES = {JAX: "jax", SBX: "sbx-rl"}
"""Engine -> the package that it needs; its module has the engine's name."""
_PINNED = {JAX: "jax==0.10.2", SBX: "sbx-rl==0.28.0"}
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
_SDE = ("use_sde", "sde_sample_freq")
_SAC = (*_SDE, "use_sde_at_warmup", "optimize_memory_usage")
_LACKS: dict[str, tuple[str, ...]] = {
    "ppo": (*_SDE, "clip_range_vf", "target_kl", "stats_window_size"),
    "dqn": ("max_grad_norm", "stats_window_size"),
    "ddpg": ("optimize_memory_usage",),
    "td3": ("optimize_memory_usage",),
    "sac": (*_SAC, "target_update_interval"),
    "tqc": (*_SAC, "target_update_interval"),
    "crossq": _SAC,
}
"""Algorithm -> arguments of Stable-Baselines3's that SBX lacks, or takes and does not use."""
_FIXED_RATE = frozenset({"dqn", "ddpg", "td3", "crossq"})
"""Those whose learning rate SBX sets once, so that a schedule would change nothing."""
_NETWORKS = ("net_arch", "activation_fn")
_CRITICS = (*_NETWORKS, "n_critics")
_POLICY: dict[str, tuple[str, ...]] = {
    "ppo": (*_NETWORKS, "log_std_init"),
    "dqn": _NETWORKS,
    "ddpg": _CRITICS,
    "td3": _CRITICS,
    "sac": _CRITICS,
    "crossq": _CRITICS,
    "tqc": (*_NETWORKS, "n_quantiles"),
}
"""Algorithm -> what its networks take."""
ACTIVATIONS = {
    "Tanh": "tanh",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "GELU": "gelu",
    "SiLU": "silu",
    "SELU": "selu",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "ReLU6": "relu6",
    "CELU": "celu",
    "Softsign": "soft_sign",
    "Hardtanh": "hard_tanh",
    "Hardswish": "hard_swish",
    "Hardsigmoid": "hard_sigmoid",
    "LogSigmoid": "log_sigmoid",
}
"""Class in ``torch.nn`` -> function in ``jax.nn``."""
_WIDTHS: JsonObject = {
    "ppo": [64, 64],
    "dqn": [64, 64],
    "ddpg": [400, 300],
    "td3": [400, 300],
    "sac": [256, 256],
    "tqc": [256, 256],
    "crossq": {"pi": [256, 256], "qf": [1024, 1024]},
}
"""Stable-Baselines3's default networks; SBX has others."""


def taken(algorithm: str) -> tuple[str, ...]:
    """Arguments that SBX takes and uses."""
    out = {*OURS, *_LACKS[algorithm]}
    return tuple(name for name in ARGUMENTS[algorithm] if name not in out)


def filled(algorithm: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with Stable-Baselines3's defaults, not SBX's own, where the file is silent.

    So that ``engine`` changes who computes, and not what.
    """
    made = {name: args.get(name, ARGUMENTS[algorithm][name]) for name in taken(algorithm)}
    made["policy_kwargs"] = {"net_arch": _WIDTHS[algorithm], **(made["policy_kwargs"] or {})}
    return made


def validate_engine(learner: LearnerSpec) -> None:
    """Refuses what the engine does not support.

    Args:
        learner: Its arguments are those of the algorithm.

    Raises:
        ConfigErrors: Every field that cannot work.
    """
    if learner.engine not in PACKAGES:
        return
    known = _LACKS if learner.engine == SBX else jax_arguments.ALGORITHMS
    if learner.algorithm not in known:
        raise ConfigError(
            f"{learner.engine.upper()} has no {learner.algorithm}",
            field="learner.engine",
            value=learner.engine,
            allowed=f"{learner.engine} for {', '.join(known)}",
            hint="delete `engine:`",
        )
    find = _problems if learner.engine == SBX else jax_arguments.problems
    errors = list(find(learner))
    if errors:
        raise ConfigErrors(errors)


def _problems(learner: LearnerSpec) -> Iterator[ConfigError]:
    algorithm, known = learner.algorithm, taken(learner.algorithm)
    without = "remove it, or delete `engine: sbx`"
    for name, value in learner.args.items():
        if name in _LACKS[algorithm]:
            yield ConfigError(
                f"is not used by SBX's {algorithm}",
                field=f"learner.args.{name}",
                value=value,
                allowed=", ".join(known),
                hint=without,
            )
    rate = learner.args.get("learning_rate")
    if algorithm in _FIXED_RATE and rate is not None and not isinstance(rate, int | float):
        yield ConfigError(
            f"is a schedule, and SBX's {algorithm} sets its learning rate once",
            field="learner.args.learning_rate",
            value=rate,
            allowed="a number",
            hint=without,
        )
    if learner.policy not in (None, "MlpPolicy"):
        yield ConfigError(
            "is not offered with SBX",
            field="learner.policy",
            value=learner.policy,
            allowed="MlpPolicy",
            hint=without,
        )
    given = learner.args.get("policy_kwargs") or {}
    for name, value in given.items():
        field = f"learner.args.policy_kwargs.{name}"
        if name not in _POLICY[algorithm]:
            yield ConfigError(
                "is not offered with SBX",
                field=field,
                value=value,
                allowed=", ".join(_POLICY[algorithm]),
                hint=nearest(name, list(_POLICY[algorithm])) or without,
            )
        elif name == "activation_fn" and activation(value) is None:
            yield ConfigError(
                "is not offered with SBX",
                field=field,
                value=value,
                allowed=", ".join(ACTIVATIONS.values()),
                hint=without,
            )
        elif name == "net_arch" and algorithm == "dqn" and not _two_alike(value):
            yield ConfigError(
                "is not two layers of one width, as SBX's dqn has",
                field=field,
                value=value,
                allowed="[64, 64]",
                hint=without,
            )


def _two_alike(widths: Json) -> bool:
    return isinstance(widths, list) and len(widths) == 2 and len(set(widths)) == 1


def activation(name: str) -> str | None:
    """The function in ``jax.nn`` for a name in a file, None where there is none."""
    from drillyard.spec.algorithms import signatures

    return ACTIVATIONS.get(str(signatures.class_name(name, signatures.ACTIVATIONS)))


def check_engine(spec: ExperimentSpec, observation: Any) -> None:
    """Refuses an engine that is not installed, or does not support these observations.

    Args:
        spec: The experiment, validated.
        observation: Observation space of the wrapped simulator.

    Raises:
        ConfigError: With the line that installs it, or the observations that it takes.
    """
    learner = spec.learner
    assert learner is not None
    engine = learner.engine
    if engine not in PACKAGES:
        return
    check_observation(engine, learner.algorithm, observation)
    travels = any(PACKAGES[engine] in line for line in spec.requirements)
    if find_spec(engine) is None and not travels:
        raise missing(engine)


def check_observation(engine: str, algorithm: str, observation: Any) -> None:
    """Refuses observations that an engine does not take.

    Args:
        engine: ``jax`` or ``sbx``.
        algorithm: Name of a built-in algorithm.
        observation: Observation space of the wrapped simulator.

    Raises:
        ConfigError: With the observations that it takes.
    """
    from drillyard.spec.algorithms.networks import auto_policy

    flat = auto_policy(observation, algorithm) == "MlpPolicy"
    if jax_arguments.sees_images(observation) if engine == JAX else not flat:
        also = " and mappings of them" if engine == JAX else ""
        raise ConfigError(
            f"{engine} is offered for flat observations{also} only, not {space_text(observation)}",
            field="learner.engine",
            value=engine,
            allowed="sb3",
            hint="delete `engine:`, or flatten it (simulator.wrappers: [flatten_observation])",
        )


def could_use_jax(spec: ExperimentSpec, observation: Any) -> bool:
    """Whether ``engine: jax`` takes a training that Stable-Baselines3 computes on a CPU.

    Args:
        spec: The experiment, validated.
        observation: Observation space of the wrapped simulator.
    """
    learner = spec.learner
    if learner is None or learner.engine != "sb3" or spec.resources.gpus:
        return False
    if learner.algorithm not in jax_arguments.ALGORITHMS:
        return False
    refused = jax_arguments.problems(learner.model_copy(update={"engine": JAX}))
    return not (jax_arguments.sees_images(observation) or any(refused))


def missing(engine: str) -> ConfigError:
    """The package of an engine is not installed, with what to do.

    Args:
        engine: A key of ``PACKAGES``.
    """
    return ConfigError(
        f"{engine.upper()} is not installed here",
        field="learner.engine",
        value=engine,
        allowed="sb3, which is installed",
        hint=f"{install(engine)}, or write `requirements: [{_PINNED[engine]}]`, or engine: sb3",
    )


def prepare(threads: int) -> None:
    """Configures JAX for a run, before its first computation; later changes have no effect.

    Args:
        threads: Number of threads of the run.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others use the GPU too
    os.environ["NPROC"] = str(threads)
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1 and _ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_ONE_THREAD}".strip()


def keep_programs(folder: Path) -> None:
    """Let JAX keep what it compiles in a folder, for later processes of the same machine.

    A program that was read back is the same machine code, so no number changes. A setting of the
    user's own counts. Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html

    Args:
        folder: It needs not exist, and whoever writes there can run code here.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
