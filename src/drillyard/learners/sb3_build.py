"""From ``learner:`` of an experiment to a Stable-Baselines3 model, and back to words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common import torch_layers
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from drillyard.errors import ConfigError, Stopped
from drillyard.learners import schedules
from drillyard.learners.arguments import clean
from drillyard.learners.networks import auto_policy
from drillyard.learners.signatures import (
    ACTIVATIONS,
    ARGUMENTS,
    EXTRACTORS,
    OPTIMISERS,
    class_name,
)
from drillyard.registry import load_object

CLASSES: dict[str, Any] = {
    "ppo": sb3.PPO, "a2c": sb3.A2C, "dqn": sb3.DQN, "ddpg": sb3.DDPG, "td3": sb3.TD3,
    "sac": sb3.SAC,
}  # fmt: skip
DEFAULT_SIGMA = 0.1


def build(
    algorithm: str,
    policy: str | None,
    args: Mapping[str, Any],
    venv: Any,
    seed: int | None,
    device: str,
) -> Any:
    """Build a model.

    Args:
        algorithm: A built-in's name.
        policy: ``learner.policy``; None lets the observation decide.
        args: ``learner.args``, checked.
        venv: The copies of the simulator.
        seed: Of the run; None leaves the process's random numbers alone.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: Stable-Baselines3 refused what the checks let through.
    """
    try:
        return CLASSES[algorithm](
            policy_class(algorithm, policy or auto_policy(venv.observation_space)), venv,
            seed=seed, device=device, verbose=0, **arguments(args, venv.action_space),
        )  # fmt: skip
    except Stopped:
        raise
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise ConfigError(
            f"{algorithm} cannot be built: {error}", field="learner.args", value=dict(args)
        ) from error


def policy_class(algorithm: str, policy: str) -> Any:
    """A policy by its name, or ``module:Class``."""
    return load_object(policy) if ":" in policy else policy


def arguments(args: Mapping[str, Any], action_space: Any) -> dict[str, Any]:
    """Constructor arguments: texts become schedules, noises and classes."""
    made = clean(args)
    for name in ("learning_rate", "clip_range", "clip_range_vf"):
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
    names = [n for n in ARGUMENTS[algorithm] if n != "policy_kwargs" and hasattr(model, n)]
    found = {name: _plain(getattr(model, name)) for name in names}
    found["learning_rate"] = _plain(model.lr_schedule)
    network = model.policy
    found |= {
        "algorithm": algorithm,
        "policy": type(network).__name__,
        "net_arch": _plain(getattr(network, "net_arch", None)),
        "activation_fn": getattr(getattr(network, "activation_fn", None), "__name__", None),
        "optimizer_class": network.optimizer_class.__name__,
        "features_extractor": network.features_extractor_class.__name__,
        "n_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "n_envs": model.n_envs,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "seed": model.seed,
    }
    return found


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
        return _ends(value) if not hasattr(value, "noise_prev") and not hasattr(
            value, "base_noise") and not hasattr(value, "_sigma") else repr(value)  # fmt: skip
    return str(value)


def _ends(schedule: Any) -> Any:
    own = getattr(schedule, "value_schedule", schedule)  # SB3 wraps what it is given
    if isinstance(own, schedules.Schedule):
        return str(own)
    start, end = float(schedule(1.0)), float(schedule(0.0))
    return start if start == end else f"{start:g} to {end:g}"
