"""The state of every random generator of a training, for a checkpoint that reseeds nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from drillyard.simulators.state import State, load_rng, rng_state

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

_EXPLORATION = ("exploration_mat", "exploration_matrices")
"""What gSDE draws before a rollout, in ``StateDependentNoiseDistribution``."""


def capture(model: BaseAlgorithm) -> State:
    """Read the generators, at a rollout start.

    Args:
        model: The algorithm; its action space has a generator of its own.
    """
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state: State = {
        "python": {"version": version, "words": np.array(words, np.uint32), "gauss": gauss},
        "numpy": [kind, np.array(keys), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if _on_gpu(model) else [],
        "actions": rng_state(model.action_space.np_random),
        "exploration": {},
    }
    for holder in _holders(model):
        for name in (n for n in (*_EXPLORATION, "noise_key") if hasattr(holder, n)):
            value = getattr(holder, name)
            tensor = isinstance(value, torch.Tensor)
            state["exploration"][name] = value.detach().clone() if tensor else np.array(value)
    return state


def restore(model: BaseAlgorithm, state: State) -> None:
    """Put the generators back, at the same rollout start.

    Args:
        model: A model of the same kind.
        state: From ``capture``.
    """
    python = state["python"]
    words = tuple(int(word) for word in python["words"])
    random.setstate((python["version"], words, python["gauss"]))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and _on_gpu(model) and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all([words.cpu() for words in state["cuda"]])
    load_rng(model.action_space.np_random, state["actions"])
    for holder in _holders(model):
        for name, value in state["exploration"].items():
            if hasattr(holder, name):
                tensor = isinstance(value, torch.Tensor)
                setattr(holder, name, value.to(model.device) if tensor else value)


def _on_gpu(model: BaseAlgorithm) -> bool:
    return bool(model.device.type == "cuda")


def _holders(model: BaseAlgorithm) -> list[Any]:
    """The parts of a model that keep what they drew for exploration, where it uses gSDE."""
    if not model.use_sde:
        return []
    actors = [part for part in (model.policy, getattr(model, "actor", None)) if part is not None]
    return [*actors, *(a.action_dist for a in actors if hasattr(a, "action_dist"))]
