"""The state of a Stable-Baselines3 model: read for a checkpoint, and put back.

It is everything that the rest of a training depends on.

Read against stable_baselines3 and sb3_contrib 2.9: ``common/base_class.py``,
``on_policy_algorithm.py``, ``off_policy_algorithm.py``, ``noise.py``, and each algorithm. The
replay buffer has a module of its own (``replay``), the simulators too
(``drillyard.simulators.vec_state``).
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from drillyard.errors import CorruptObject
from drillyard.learners.types import (
    HasPolicy,
    LearnerState,
    LoggerState,
    Metrics,
    Observation,
    Tensors,
)
from drillyard.simulators.state import State

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.noise import ActionNoise

_COUNTERS = (
    "num_timesteps",
    "_episode_num",
    "_n_updates",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)
_LIKE_PARAMETERS = {
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
}
"""What PyTorch's optimisers keep for each parameter, in its shape."""


def capture(model: BaseAlgorithm) -> LearnerState:
    """Read the learner's state.

    Args:
        model: An SB3 algorithm at a rollout start.

    Returns:
        A tree for ``packing.pack``.
    """
    modules, tensors = model._get_torch_save_params()
    return {
        "counters": {n: getattr(model, n) for n in _COUNTERS if hasattr(model, n)},
        "modules": {n: attrgetter(n)(model).state_dict() for n in modules},
        "tensors": {n: attrgetter(n)(model).detach().clone() for n in tensors},
        "episodes": [_episode(e) for e in model.ep_info_buffer],
        "successes": [float(s) for s in model.ep_success_buffer],
        "noise": [np.array(n.noise_prev) for n in _noises(model) if hasattr(n, "noise_prev")],
        "observations": {
            "last": _copy(model._last_obs),
            "starts": np.array(model._last_episode_starts),
            "original": _copy(model._last_original_obs),
        },
        "memory": [t.detach().clone() for t in _memory(model)],
        "logger": capture_logger(model.logger),
    }


def restore(model: BaseAlgorithm, tree: LearnerState, *, observations: bool) -> None:
    """Put a freshly built model into a captured state.

    Args:
        model: Built in the same way, after SB3's own ``_setup_learn``.
        tree: From ``capture``.
        observations: False where the simulators are reset instead.

    Raises:
        CorruptObject: The state belongs to another model.
    """
    try:
        for name, count in tree["counters"].items():
            setattr(model, name, count)
        for name, state in tree["modules"].items():
            module = attrgetter(name)(model)
            if isinstance(module, torch.optim.Optimizer):
                _must_fit(module, name, state["state"], model)
            module.load_state_dict(dict(state))
        with torch.no_grad():
            for name, tensor in tree["tensors"].items():
                attrgetter(name)(model).copy_(tensor)
    except (LookupError, AttributeError, RuntimeError, ValueError) as error:
        raise CorruptObject(f"the checkpoint belongs to another learner: {error}") from error
    model.ep_info_buffer.clear()
    model.ep_info_buffer.extend(dict(e) for e in tree["episodes"])
    model.ep_success_buffer.clear()
    model.ep_success_buffer.extend(tree["successes"])
    if observations:
        for noise, value in zip(
            (n for n in _noises(model) if hasattr(n, "noise_prev")), tree["noise"], strict=True
        ):
            noise.noise_prev = np.array(value)
        for tensor, remembered in zip(_memory(model), tree.get("memory", ()), strict=True):
            tensor.copy_(remembered)
        model._last_obs = _copy(tree["observations"]["last"])
        model._last_episode_starts = np.array(tree["observations"]["starts"])
        model._last_original_obs = _copy(tree["observations"]["original"])
    restore_logger(model.logger, tree["logger"])


def rollout_steps(model: BaseAlgorithm) -> int:
    """Steps of one rollout, over all copies; 0 where they differ."""
    frequency = getattr(model, "train_freq", None)
    if frequency is None:
        steps = getattr(model, "n_steps", 0)
    else:
        steps = frequency.frequency if frequency.unit is TrainFrequencyUnit.STEP else 0
    return int(steps * model.n_envs)


def _must_fit(
    optimiser: torch.optim.Optimizer, name: str, state: State, model: BaseAlgorithm
) -> None:
    """Compare shapes. PyTorch does it for the tensors of a module, but not of an optimiser."""
    names = {id(p): n for n, p in model.policy.named_parameters()}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for position, values in state.items():
        parameter = parameters[int(position)]
        for kind in _LIKE_PARAMETERS & values.keys():
            if values[kind].shape != parameter.shape:
                raise ValueError(
                    f"{name}: {kind} of {names.get(id(parameter), position)} has shape "
                    f"{list(values[kind].shape)}, and the parameter has {list(parameter.shape)}"
                )


def capture_logger(logger: Logger) -> LoggerState:
    """Values that were recorded and not yet written."""
    values = {name: _plain(value) for name, value in logger.name_to_value.items()}
    kept: Metrics = {
        n: value for n, value in values.items() if isinstance(value, int | float | str)
    }
    return {"values": kept, "counts": {n: int(c) for n, c in logger.name_to_count.items()}}


def restore_logger(logger: Logger, tree: LoggerState) -> None:
    """Put a logger into the state of another one.

    A run that is not interrupted does this at each barrier, too: a float32 and its value as a
    Python float have different averages.
    """
    logger.name_to_value.clear()
    logger.name_to_value.update(tree["values"])
    logger.name_to_count.clear()
    logger.name_to_count.update(tree["counts"])


def capture_kinds(logger: Logger) -> dict[str, str]:
    """The numpy types of recorded values, which ``capture_logger`` turns into Python's."""
    values = logger.name_to_value.items()
    return {name: v.dtype.str for name, v in values if isinstance(v, np.generic)}


def restore_kinds(logger: Logger, kinds: dict[str, str]) -> None:
    """Give recorded values their types back, so that later averages round as they would have."""
    for name, kind in kinds.items():
        if name in logger.name_to_value:
            logger.name_to_value[name] = np.dtype(kind).type(logger.name_to_value[name])


def device_of(model: BaseAlgorithm) -> str:
    """Where a model computes, ``cpu`` or ``cuda``; a model of ``engine: jax`` has ``backend``."""
    return str(getattr(model, "backend", model.device.type))


def weights(model: HasPolicy) -> Tensors:
    """A copy of the policy's tensors, by name, on the CPU."""
    return {n: t.detach().cpu().clone() for n, t in model.policy.state_dict().items()}


def other_shapes(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The tensors whose shapes differ: name, shape now and shape then, by name.

    Args:
        now: Name -> tensor or array; None does not count.
        then: The same, of an earlier network.
    """
    here, there = (
        {name: str(tuple(np.shape(value))) for name, value in tensors.items() if value is not None}
        for tensors in (now, then)
    )
    return [
        (name, here.get(name, "missing"), there.get(name, "missing"))
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]


def unfinite_tensor(model: BaseAlgorithm) -> str | None:
    """Name of a parameter that is NaN or infinite, or None."""
    for name, tensor in model.policy.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            return str(name)
    return None


def resample_exploration(model: BaseAlgorithm) -> None:
    """Draw new exploration matrices of gSDE, as SB3 did just before the start of the rollout."""
    if not model.use_sde:
        return
    actor = model.policy if hasattr(model.policy, "reset_noise") else model.actor
    actor.reset_noise(model.n_envs)


def begin_episodes(model: BaseAlgorithm) -> None:
    """Reset the action noise and the memory of a recurrent policy for new episodes."""
    if model.action_noise is not None:
        model.action_noise.reset()
    for tensor in _memory(model):
        tensor.zero_()


def _memory(model: BaseAlgorithm) -> list[torch.Tensor]:
    """The memory of a recurrent policy for each copy: hidden and cell state, actor and critic."""
    states = getattr(model, "_last_lstm_states", None)
    return [] if states is None else [tensor for pair in states for tensor in pair]


def _noises(model: BaseAlgorithm) -> list[ActionNoise]:
    noise = getattr(model, "action_noise", None)
    if noise is None:
        return []
    return list(getattr(noise, "noises", [noise]))


def _episode(info: dict[str, float]) -> dict[str, float]:
    return {k: _plain(info[k]) for k in ("r", "l") if k in info}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value


def _copy(value: Observation | None) -> Observation | None:
    if isinstance(value, dict):
        return {k: np.array(v) for k, v in value.items()}
    return None if value is None else np.array(value)
