"""``learner.engine``: the library that computes an algorithm. Needs neither torch nor JAX.

``jax`` is drillyard's own compiled learner: every argument of ``ppo`` and ``a2c`` but gSDE, and
networks of dense layers over flat observations. SBX has Stable-Baselines3's algorithms in JAX, and
its arguments, but not all of them. What an engine lacks, or takes and does not use, is refused by
name. ``tests/contract/test_sbx.py`` holds the tables against the installed signatures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms import signatures
from drillyard.spec.algorithms.argument_table import ARGUMENTS, ignored
from drillyard.spec.learning import LearnerSpec
from drillyard.system.optional_packages import install

JAX, SBX = "jax", "sbx"
PACKAGES = {JAX: "jax", SBX: "sbx-rl"}
"""Engine -> the package that it needs; its module has the engine's name."""
_PINNED = {JAX: "jax==0.10.2", SBX: "sbx-rl==0.28.0"}
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
_NETWORKS = ("net_arch", "activation_fn")
_CRITICS = (*_NETWORKS, "n_critics")
_OF_JAX = (*_NETWORKS, "ortho_init", "log_std_init", "optimizer_class", "optimizer_kwargs")
NETWORKS: dict[str, dict[str, tuple[str, ...]]] = {
    JAX: {"ppo": _OF_JAX, "a2c": _OF_JAX},
    SBX: {
        "ppo": (*_NETWORKS, "log_std_init"),
        "dqn": _NETWORKS,
        "ddpg": _CRITICS,
        "td3": _CRITICS,
        "sac": _CRITICS,
        "crossq": _CRITICS,
        "tqc": (*_NETWORKS, "n_quantiles"),
    },
}
"""Engine -> algorithm that it has -> what its networks take."""
_POLICIES = {JAX: ("MlpPolicy", "MultiInputPolicy"), SBX: ("MlpPolicy",)}
_FIXED_RATE = frozenset({"dqn", "ddpg", "td3", "crossq"})
"""Those whose learning rate SBX sets once, so that a schedule would change nothing."""
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
_ACTIVATIONS = {
    JAX: {*signatures.ACTIVATIONS.values()} - {"PReLU"},  # which learns
    SBX: {*ACTIVATIONS},
}
"""Engine -> classes in ``torch.nn`` that it has."""
_JAX_OPTIMISERS: dict[str, tuple[str, ...]] = {
    "Adam": ("betas", "eps", "weight_decay"),
    "AdamW": ("betas", "eps", "weight_decay"),
    "RMSprop": ("alpha", "eps", "weight_decay"),
}
"""Class in ``torch.optim`` -> its settings there, without the learning rate."""
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
    out = ignored(SBX, algorithm)
    return tuple(name for name in ARGUMENTS[algorithm] if name not in out)


def filled(algorithm: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with Stable-Baselines3's defaults, not SBX's own, where the file is silent.

    So that ``engine`` changes who computes, and not what.
    """
    given = {name: args.get(name, ARGUMENTS[algorithm][name]) for name in taken(algorithm)}
    given["policy_kwargs"] = {"net_arch": _WIDTHS[algorithm], **(given["policy_kwargs"] or {})}
    return given


def validate_engine(learner: LearnerSpec) -> None:
    """Refuses what the engine does not support.

    Args:
        learner: Its arguments are those of the algorithm.

    Raises:
        ConfigErrors: Every field that cannot work.
    """
    if learner.engine not in PACKAGES:
        return
    known = NETWORKS[learner.engine]
    if learner.algorithm not in known:
        raise ConfigError(
            f"{learner.engine.upper()} has no {learner.algorithm}",
            field="learner.engine",
            value=learner.engine,
            allowed=f"{learner.engine} for {', '.join(known)}",
            hint="delete `engine:`",
        )
    errors = list(_problems(learner))
    if errors:
        raise ConfigErrors(errors)


def _problems(learner: LearnerSpec) -> Iterator[ConfigError]:
    """Yields an error for each setting that the engine lacks, or takes and does not use."""
    engine, algorithm = learner.engine, learner.algorithm

    def refused(field: str, value: Json, allowed: str) -> ConfigError:
        return ConfigError(
            f"is not offered with engine: {engine}",
            field=f"learner.{field}",
            value=value,
            allowed=allowed,
            hint=f"leave it out, or delete `engine: {engine}`",
        )

    for name in ignored(engine, algorithm):
        default = ARGUMENTS[algorithm][name]
        if (value := learner.args.get(name, default)) != default:
            yield refused(f"args.{name}", value, json.dumps(default))
    rate = learner.args.get("learning_rate", 0.0)
    if engine == SBX and algorithm in _FIXED_RATE and not isinstance(rate, int | float):
        reason = f"is a schedule, and SBX's {algorithm} sets its learning rate once"
        yield refused("args.learning_rate", rate, "a number").but(message=reason)
    if learner.policy not in (None, *_POLICIES[engine]):
        yield refused("policy", learner.policy, ", ".join(_POLICIES[engine]))
    given = learner.args.get("policy_kwargs") or {}
    for name in given:
        for part, wrong, allowed in _network_problems(engine, algorithm, name, given):
            yield refused(f"args.policy_kwargs.{name}{part}", wrong, allowed)


def _network_problems(
    engine: str, algorithm: str, name: str, given: Mapping[str, Any]
) -> Iterator[tuple[str, Json, str]]:
    """Yields (part of the setting, value, what is allowed) for each one that is refused."""
    value, known = given[name], NETWORKS[engine][algorithm]
    if name not in known:
        yield "", value, ", ".join(known)
    elif name == "activation_fn" and _torch_class(value) not in _ACTIVATIONS[engine]:
        names_ = [n for n, kind in signatures.ACTIVATIONS.items() if kind in _ACTIVATIONS[engine]]
        yield "", value, ", ".join(names_)
    elif name == "net_arch" and (engine, algorithm) == (SBX, "dqn") and not _two_alike(value):
        yield "", value, "two layers of one width: [64, 64]"
    elif name == "optimizer_class" and _optimiser(value) not in _JAX_OPTIMISERS:
        yield "", value, ", ".join(_JAX_OPTIMISERS).lower()
    elif name == "optimizer_kwargs":
        settings = _JAX_OPTIMISERS.get(_optimiser(given.get("optimizer_class", "adam")), ())
        for key, setting in (value or {}).items():
            if settings and key not in settings:
                yield f".{key}", setting, ", ".join(settings)


def _two_alike(widths: Json) -> bool:
    return isinstance(widths, list) and len(widths) == 2 and len(set(widths)) == 1


def _optimiser(name: object) -> str:
    return str(signatures.class_name(name, signatures.OPTIMISERS))


def _torch_class(name: object) -> str | None:
    importable = ":" in str(name)
    return None if importable else signatures.class_name(name, signatures.ACTIVATIONS)


def activation(name: str) -> str | None:
    """The function in ``jax.nn`` for a name in a file, None where there is none."""
    return ACTIVATIONS.get(str(_torch_class(name)))


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
    if sees_images(observation) if engine == JAX else not flat:
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
    if learner.algorithm not in NETWORKS[JAX]:
        return False
    refused = _problems(learner.model_copy(update={"engine": JAX}))
    return not (sees_images(observation) or any(refused))


def sees_images(observation: Any) -> bool:
    """Would Stable-Baselines3 put convolutions before an observation, or a part of it?

    Args:
        observation: Space of the wrapped simulator.
    """
    from gymnasium import spaces

    if isinstance(observation, spaces.Dict):
        return any(sees_images(part) for part in observation.spaces.values())
    return len(observation.shape or ()) == 3 and observation.dtype == "uint8"


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
