"""Builds a Stable-Baselines3 model from ``learner:``, and describes a built model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from stable_baselines3.common import torch_layers
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.errors import ConfigError, Stopped
from drillyard.learners.algorithms import CLASSES
from drillyard.learners.determinism import import_compiler, mixed
from drillyard.learners.small_images import fitted
from drillyard.learners.types import Space
from drillyard.registry import load_object
from drillyard.spec.algorithms import engines, schedules
from drillyard.spec.algorithms.argument_table import ARGUMENTS, SCHEDULED
from drillyard.spec.algorithms.arguments import clean
from drillyard.spec.algorithms.networks import auto_policy
from drillyard.spec.algorithms.signatures import (
    ACTIVATIONS,
    EXTRACTORS,
    FROM_EPISODES,
    OPTIMISERS,
    class_name,
)

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.noise import ActionNoise
    from stable_baselines3.common.policies import BasePolicy
    from stable_baselines3.common.vec_env import VecEnv

DEFAULT_SIGMA = 0.1
Kwargs: TypeAlias = dict[str, Any]
"""Arguments of a constructor of Stable-Baselines3: JSON, schedules, noises and classes."""
Schedule: TypeAlias = Callable[[float], float]
"""From the remaining progress (1 to 0) to a value."""


def build(
    algorithm: str,
    policy: str | None,
    args: Mapping[str, Json],
    venv: VecEnv,
    seed: int | None,
    device: str,
    engine: str = "sb3",
    precision: str = "full",
) -> BaseAlgorithm:
    """Build a model.

    Args:
        algorithm: Name of a built-in algorithm.
        policy: ``learner.policy``; None lets the observation decide.
        args: ``learner.args``, checked.
        venv: The copies of the simulator.
        seed: The seed of the run; None leaves the random numbers of the process unchanged.
        device: ``cpu`` or ``cuda``.
        engine: ``learner.engine``.
        precision: ``resources.precision``.

    Raises:
        ConfigError: The library refused what the checks let through, or is missing.
    """
    import_compiler()
    if engine in engines.PACKAGES:  # an experiment that was not checked gets the same sentence
        engines.check_observation(engine, algorithm, venv.observation_space)
    try:
        if engine == engines.SBX:
            model = library(engine).build(algorithm, args, venv, seed, device)
        else:
            kind = CLASSES[algorithm] if precision == "full" else mixed(CLASSES[algorithm])
            if engine == engines.JAX:
                kind, device = library(engine).algorithm(algorithm, device), "cpu"
            name = policy or auto_policy(venv.observation_space, algorithm)
            given = _given(name, args, venv)
            network = policy_class(algorithm, name)
            model = kind(network, venv, seed=seed, device=device, verbose=0, **given)
        # SB3's default logger would create an empty folder in the temporary folder.
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model
    except Stopped:
        raise
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise ConfigError(
            f"{algorithm} cannot be built: {error}", field="learner.args", value=dict(args)
        ) from error


def _given(policy: str, args: Mapping[str, Json], venv: VecEnv) -> Kwargs:
    """Arguments of a constructor, with the network that small images need."""
    kwargs = arguments(args, venv.action_space)
    small = fitted(policy, args, venv.observation_space)
    if small:
        kwargs["policy_kwargs"] = {**(kwargs.get("policy_kwargs") or {}), **small}
    return kwargs


def library(engine: str) -> ModuleType:
    """Imports the module that works with JAX. The import happens here, after a worker forked.

    Args:
        engine: ``jax`` or ``sbx``.

    Raises:
        ConfigError: Its package is not installed here.
    """
    if find_spec(engine) is None:
        raise engines.missing(engine)
    engines.prepare(torch.get_num_threads())
    return import_module(
        "drillyard.learners.sbx"
        if engine == engines.SBX
        else "drillyard.learners.jax_engine.model"
    )


def untrained_policy(
    algorithm: str,
    name: str,
    args: Mapping[str, Json],
    observation: Space,
    action: Space,
    engine: str = "sb3",
) -> BasePolicy:
    """Builds the network of an algorithm, to load known weights into.

    Args:
        algorithm: Name of a built-in algorithm.
        name: Name of the chosen policy.
        args: ``learner.args``.
        observation: The observation space that it was trained for.
        action: Its action space.
        engine: ``learner.engine``.
    """
    import_compiler()
    if engine == engines.SBX:
        return library(engine).untrained_policy(algorithm, args, observation, action)
    # DDPG is SB3's TD3 with a single critic, which its constructor adds.
    implied: Kwargs = {"n_critics": 1} if algorithm == "ddpg" else {}
    kwargs = implied | policy_kwargs(as_object(args.get("policy_kwargs")))
    kwargs |= fitted(name, args, observation)
    if "use_sde" in ARGUMENTS[algorithm]:
        kwargs["use_sde"] = bool(args.get("use_sde", False))
    kind = policy_class(algorithm, name)
    if isinstance(kind, str):
        kind = CLASSES[algorithm].policy_aliases[kind]
    # Algorithms without gradients have no optimiser, and take no learning rate.
    rate = () if algorithm in FROM_EPISODES else (lambda _: 0.0,)
    return kind(observation, action, *rate, **kwargs)


def policy_class(algorithm: str, policy: str) -> str | type[BasePolicy]:
    """A policy by its name, or the class of ``module:Class``."""
    return load_object(policy) if ":" in policy else policy


def arguments(args: Mapping[str, Json], action_space: Space) -> Kwargs:
    """Constructor arguments: texts become schedules, noises and classes."""
    kwargs: Kwargs = deepcopy(clean(args))  # SB3 changes the arguments that it receives
    for name in SCHEDULED:
        if isinstance(kwargs.get(name), str | Mapping):
            kwargs[name] = schedules.function(kwargs[name])
    if isinstance(kwargs.get("train_freq"), list):
        kwargs["train_freq"] = tuple(kwargs["train_freq"])
    if kwargs.get("action_noise") is not None:
        kwargs["action_noise"] = _noise(kwargs["action_noise"], action_space.shape or ())
    if kwargs.get("policy_kwargs") is not None:
        kwargs["policy_kwargs"] = policy_kwargs(kwargs["policy_kwargs"])
    return kwargs


def policy_kwargs(given: Mapping[str, Json]) -> Kwargs:
    """``policy_kwargs`` with names turned into classes."""
    kwargs: Kwargs = dict(given)
    if "activation_fn" in kwargs:
        kwargs["activation_fn"] = _class(kwargs["activation_fn"], ACTIVATIONS, torch.nn)
    if "optimizer_class" in kwargs:
        kwargs["optimizer_class"] = _class(kwargs["optimizer_class"], OPTIMISERS, torch.optim)
    if "features_extractor_class" in kwargs:
        kwargs["features_extractor_class"] = _class(
            kwargs["features_extractor_class"], EXTRACTORS, torch_layers
        )
    if isinstance(kwargs.get("net_arch"), Mapping):
        kwargs["net_arch"] = {k: list(v) for k, v in kwargs["net_arch"].items()}
    return kwargs


def _class(name: str, table: dict[str, str], module: ModuleType) -> type:
    kind: type = (
        load_object(name) if ":" in name else getattr(module, str(class_name(name, table)))
    )
    return kind


def _noise(given: str | Mapping[str, float], shape: tuple[int, ...]) -> ActionNoise:
    settings = {"name": given} if isinstance(given, str) else dict(given)
    sigma = float(settings.get("sigma", DEFAULT_SIGMA)) * np.ones(shape)
    if settings["name"] == "normal":
        return NormalActionNoise(np.zeros(shape), sigma)
    extra = {k: float(settings[k]) for k in ("theta", "dt") if k in settings}
    return OrnsteinUhlenbeckActionNoise(np.zeros(shape), sigma, **extra)


def describe(algorithm: str, model: BaseAlgorithm) -> JsonObject:
    """The parameters that the built model really has, as JSON."""
    reported: JsonObject = model.described() if hasattr(model, "described") else {}
    names = [
        n
        for n in ARGUMENTS[algorithm]
        if n != "policy_kwargs" and n not in reported and hasattr(model, n)
    ]
    parameters: JsonObject = {name: _plain(getattr(model, name)) for name in names}
    parameters["stats_window_size"] = model._stats_window_size
    parameters["learning_rate"] = _plain(model.lr_schedule)
    if hasattr(model, "delta_std_schedule"):
        parameters["delta_std"] = _plain(model.delta_std_schedule)
    parameters |= _of_the_optimiser(algorithm, model)
    network = model.policy
    parameters |= {
        "algorithm": algorithm,
        "policy": type(network).__name__,
        "net_arch": _plain(getattr(network, "net_arch", None)),
        "activation_fn": getattr(getattr(network, "activation_fn", None), "__name__", None),
        "optimizer_class": _name(getattr(network, "optimizer_class", None)),
        "features_extractor": _name(getattr(network, "features_extractor_class", None)),
        "n_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "n_envs": model.n_envs,
        "device": str(model.device),
        **({"precision": "mixed"} if hasattr(model, "mixed") else {}),
        "threads": torch.get_num_threads(),
        "seed": model.seed,
    }
    return parameters | reported


def _of_the_optimiser(algorithm: str, model: BaseAlgorithm) -> JsonObject:
    """Arguments that SB3 stores only in the optimiser."""
    if "use_rms_prop" not in ARGUMENTS[algorithm]:
        return {}
    optimiser = model.policy.optimizer
    used = "rmsprop" in type(optimiser).__name__.lower()
    return {"use_rms_prop": used} | ({"rms_prop_eps": optimiser.defaults["eps"]} if used else {})


def _name(kind: type | None) -> str | None:
    return None if kind is None else str(kind.__name__)


def _plain(value: Any) -> Json:
    """An attribute of a model as JSON."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, torch.Tensor | np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "frequency") and hasattr(value, "unit"):
        return f"{value.frequency} {value.unit.value}"
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return (
            _ends(value)
            if not hasattr(value, "noise_prev")
            and not hasattr(value, "base_noise")
            and not hasattr(value, "_sigma")
            else repr(value)
        )
    return str(value)


def _ends(schedule: Schedule) -> float | str:
    """A schedule by its own text, or by its first and its last value."""
    inner = getattr(schedule, "value_schedule", schedule)  # SB3 wraps a schedule
    if isinstance(inner, schedules.Schedule):
        return str(inner)
    start, end = float(schedule(1.0)), float(schedule(0.0))
    return start if start == end else f"{start:g} to {end:g}"
