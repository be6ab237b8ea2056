"""What the numbers of a training are worth: exact, or why not."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import stable_baselines3
import torch

from drillyard.documents.json_types import as_object
from drillyard.errors import NotFound
from drillyard.learners.barriers import Marks
from drillyard.learners.plan import Plan
from drillyard.mailbox import Mailbox
from drillyard.system.platform_info import cpu_brand

if TYPE_CHECKING:
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
    if training.marks.changed_at is not None:
        return f"hybrid (other settings up to step {training.marks.changed_at:,})"
    if training.marks.copies_changed:
        return "statistically equal (number of copies changed)"
    if training.marks.platform_changed:
        return "statistically equal (processor, threads, device or versions changed)"
    if device != "cpu" and not training.context.spec.resources.deterministic:
        return "statistically equal (a GPU, without resources.deterministic)"
    if training.silent:
        return "exact with resets"
    return "exact"


def same_platform(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Can the numbers be the same bit by bit? What an older checkpoint did not record, may be."""
    return all(now.get(name) == value for name, value in before.items())


def note_changes(
    marks: Marks,
    tree: Mapping[str, Any],
    platform: Mapping[str, Any],
    settings: str | None,
    step: int,
    own: bool,
) -> None:
    """Mark a resumed training for good that differs from one that was left alone.

    Args:
        marks: Of the training; changed.
        tree: The checkpoint's content.
        platform: What bit-equality depends on here.
        settings: See ``settings_of``.
        step: Of the checkpoint.
        own: False: the checkpoint is another run's, with settings of its own.
    """
    if not same_platform(tree["platform"], platform):
        marks.platform_changed = True
    before = tree.get("settings")  # older checkpoints do not say it
    if not own:
        marks.changed_at = None
    elif before is not None and before != settings:
        marks.changed_at = step


def settings_of(mailbox: Mailbox) -> str | None:
    """A hash over what changes a training, but for the number of copies, which has its own label.

    Returns:
        None where nobody recorded it.
    """
    try:
        whole = as_object(mailbox.experiment_record().identity_parts.get("training"))
    except NotFound:
        return None
    if not whole:
        return None
    train = {k: v for k, v in as_object(whole.get("train")).items() if k != "n_envs"}
    text = json.dumps({**whole, "train": train}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def platform_of(model: Any) -> dict[str, Any]:
    """What bit-equality depends on."""
    cuda = model.device.type == "cuda"
    own = model.platform() if hasattr(model, "platform") else {}
    return {
        "machine": platform.machine(),
        "cpu": cpu_brand(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "gymnasium": version("gymnasium"),
        "device": torch.cuda.get_device_name(model.device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "numpy": np.__version__,
        **({"jax": version("jax")} if hasattr(model, "described") else {}),
        **own,
    }
