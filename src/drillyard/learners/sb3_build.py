"""From ``learner:`` of an experiment to a Stable-Baselines3 model, and back to words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from stable_baselines3.common import torch_layers
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from drillyard.errors import ConfigError, Stopped
from drillyard.learners.algorithms import CLASSES
from drillyard.learners.determinism import import_compiler, mixed
from drillyard.registry import load_object
from drillyard.spec.algorithms import engines, schedules
from drillyard.spec.algorithms.arguments import clean
from drillyard.spec.algorithms.networks import auto_policy
from drillyard.spec.algorithms.signatures import (
    ACTIVATIONS,
    ARGUMENTS,
    EXTRACTORS,
    FROM_EPISODES,
    OPTIMISERS,
    class_name,
)

DEFAULT_SIGMA = 0.1


def build(
    algorithm: str,
    policy: str | None,
    args: Mapping[str, Any],
    venv: Any,
    seed: int | None,
    device: str,
    engine: str = "sb3",
    precision: str = "full",
) -> Any:
    """Build a model.

    Args:
        algorithm: A built-in's name.
        policy: ``learner.policy``; None lets the observation decide.
        args: ``learner.args``, checked.
        venv: The copies of the simulator.
        seed: Of the run; None leaves the process's random numbers alone.
        device: ``cpu`` or ``cuda``.
        engine: ``learner.engine``.
        precision: ``resources.precision``.

    Raises:
        ConfigError: The library refused what the checks let through, or is missing.
    """
    import_compiler()
    try:
        if engine == engines.SBX:
            model = library(engine).build(algorithm, args, venv, seed, device)
        else:
            kind = CLASSES[algorithm] if precision == "full" else mixed(CLASSES[algorithm])
            if engine == engines.JAX:
                kind, device = library(engine).algorithm(algorithm, device), "cpu"
            model = kind(
                policy_class(algorithm, policy or auto_policy(venv.observation_space, algorithm)),
                venv,
                seed=seed,
                device=device,
                verbose=0,
                **arguments(args, venv.action_space),
            )
        # Its own logger would make a folder in the temporary one, and leave it there empty.
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model
    except Stopped:
        raise
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise ConfigError(
            f"{algorithm} cannot be built: {error}", field="learner.args", value=dict(args)
        ) from error


def library(engine: str) -> Any:
    """The module that works with JAX; it is imported here, after a worker has forked.

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
    args: Mapping[str, Any],
    observation: Any,
    action: Any,
    engine: str = "sb3",
) -> Any:
    """The network of an algorithm, for weights that are known.

    Args:
        algorithm: A built-in's name.
        name: Of the policy, as chosen.
        args: ``learner.args``.
        observation: Space that it was trained for.
        action: Its action space.
        engine: ``learner.engine``.
    """
    import_compiler()
    if engine == engines.SBX:
        return library(engine).untrained_policy(algorithm, args, observation, action)
    # DDPG is SB3's TD3 with a single critic, which its constructor puts in.
    implied = {"n_critics": 1} if algorithm == "ddpg" else {}
    kwargs = implied | policy_kwargs(args.get("policy_kwargs") or {})
    if "use_sde" in ARGUMENTS[algorithm]:
        kwargs["use_sde"] = bool(args.get("use_sde", False))
    found = policy_class(algorithm, name)
    if isinstance(found, str):
        found = CLASSES[algorithm].policy_aliases[found]
    # Those that are moved without a gradient have no optimiser, and take no learning rate.
    rate = () if algorithm in FROM_EPISODES else (lambda _: 0.0,)
    return found(observation, action, *rate, **kwargs)


def policy_class(algorithm: str, policy: str) -> Any:
    """A policy by its name, or ``module:Class``."""
    return load_object(policy) if ":" in policy else policy


def arguments(args: Mapping[str, Any], action_space: Any) -> dict[str, Any]:
    """Constructor arguments: texts become schedules, noises and classes."""
    made = deepcopy(clean(args))  # SB3 writes into what it is given
    for name in ("learning_rate", "clip_range", "clip_range_vf", "delta_std"):
        if isinstance(made.get(name), str | Mapping):
            made[name] = schedules.function(made[name])
    if isinstance(made.get("train_freq"), list):
        made["train_freq"] = tuple(made["train_freq"])
    if made.get("action_noise") is not None:
        made["action_noise"] = _noise(made["action_noise"], action_space.shape)
    if made.get("policy_kwargs") is not None:
        made["policy_kwargs"] = policy_kwargs(made["policy_kwargs"])
    return made


def policy_kwargs(given: Mapping[str, Any]) -> dict[str, Any]:
    """``policy_kwargs`` with names turned into classes."""
    made = dict(given)
    if "activation_fn" in made:
        made["activation_fn"] = _class(made["activation_fn"], ACTIVATIONS, torch.nn)
    if "optimizer_class" in made:
        made["optimizer_class"] = _class(made["optimizer_class"], OPTIMISERS, torch.optim)
    if "features_extractor_class" in made:
        made["features_extractor_class"] = _class(
            made["features_extractor_class"], EXTRACTORS, torch_layers
        )
    if isinstance(made.get("net_arch"), Mapping):
        made["net_arch"] = {k: list(v) for k, v in made["net_arch"].items()}
    return made


def _class(name: str, table: dict[str, str], module: Any) -> Any:
    return load_object(name) if ":" in name else getattr(module, str(class_name(name, table)))


def _noise(given: Any, shape: tuple[int, ...]) -> Any:
    settings = {"name": given} if isinstance(given, str) else dict(given)
    sigma = float(settings.get("sigma", DEFAULT_SIGMA)) * np.ones(shape)
    if settings["name"] == "normal":
        return NormalActionNoise(np.zeros(shape), sigma)
    extra = {k: float(settings[k]) for k in ("theta", "dt") if k in settings}
    return OrnsteinUhlenbeckActionNoise(np.zeros(shape), sigma, **extra)


def describe(algorithm: str, model: Any) -> dict[str, Any]:
    """Parameters as the built model really has them, as JSON."""
    own: dict[str, Any] = model.described() if hasattr(model, "described") else {}
    names = [
        n
        for n in ARGUMENTS[algorithm]
        if n != "policy_kwargs" and n not in own and hasattr(model, n)
    ]
    found = {name: _plain(getattr(model, name)) for name in names}
    found["stats_window_size"] = model._stats_window_size
    found["learning_rate"] = _plain(model.lr_schedule)
    if hasattr(model, "delta_std_schedule"):
        found["delta_std"] = _plain(model.delta_std_schedule)
    found |= _of_the_optimiser(algorithm, model)
    network = model.policy
    found |= {
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
    return found | own


def _of_the_optimiser(algorithm: str, model: Any) -> dict[str, Any]:
    """Arguments that SB3 keeps nowhere but in the optimiser that it made of them."""
    if "use_rms_prop" not in ARGUMENTS[algorithm]:
        return {}
    optimiser = model.policy.optimizer
    used = "rmsprop" in type(optimiser).__name__.lower()
    return {"use_rms_prop": used} | ({"rms_prop_eps": optimiser.defaults["eps"]} if used else {})


def _name(kind: Any) -> str | None:
    return None if kind is None else str(kind.__name__)


def _plain(value: Any) -> Any:
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


def _ends(schedule: Any) -> Any:
    own = getattr(schedule, "value_schedule", schedule)  # SB3 wraps what it is given
    if isinstance(own, schedules.Schedule):
        return str(own)
    start, end = float(schedule(1.0)), float(schedule(0.0))
    return start if start == end else f"{start:g} to {end:g}"
