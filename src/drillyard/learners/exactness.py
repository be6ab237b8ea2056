"""What the numbers of a training are worth: exact, or why not."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import stable_baselines3
import torch

from drillyard.learners.plan import Plan
from drillyard.learners.training import Training


def exactness(training: Training, plan: Plan, device: str) -> str:
    """In words, how this run relates to an uninterrupted one.

    Args:
        training: That has ended.
        plan: Its plan.
        device: ``cpu`` or ``cuda``.
    """
    if plan.max_time_s is not None:
        return "not reproducible (stopped by wall clock)"
    if training.marks.copies_changed:
        return "statistically equal (number of copies changed)"
    if not training.same_platform:
        return "statistically equal (threads, device or versions changed)"
    if device != "cpu" and not training.context.spec.resources.deterministic:
        return "statistically equal (a GPU, without resources.deterministic)"
    if training.silent:
        return "exact with resets"
    return "exact"


def platform_of(model: Any) -> dict[str, Any]:
    """What bit-equality depends on."""
    cuda = model.device.type == "cuda"
    return {
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(model.device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "numpy": np.__version__,
        **({"jax": version("jax")} if hasattr(model, "described") else {}),
    }
