"""Whether the numbers of a training are exact, and if not, why."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import stable_baselines3
import torch

from drillyard.documents.json_types import as_object
from drillyard.errors import NotFound
from drillyard.learners.barriers import Marks
from drillyard.learners.plan import Plan
from drillyard.mailbox import Mailbox
from drillyard.system.operating_system import cpu_brand

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from drillyard.learners.training import Training
    from drillyard.learners.types import TrainingState

_NOT_NAMED = "processor, threads, device or versions"
_SHOWN = {"cpu": "processor", "machine": "processor", "capability": "processor"}


def exactness(training: Training, plan: Plan, device: str) -> str:
    """Describes how this run relates to an uninterrupted one.

    Args:
        training: The training, which has ended.
        plan: Its plan.
        device: ``cpu`` or ``cuda``.
    """
    if plan.max_time_s is not None:
        return "not reproducible (stopped by wall clock)"
    if training.marks.changed_at is not None:
        return f"hybrid (other settings up to step {training.marks.changed_at:,})"
    if training.marks.copies_changed:
        return "statistically equal (number of copies changed)"
    if training.marks.replay_differed:
        return "statistically equal (the replay of an episode differed)"
    if training.marks.platform_changed:
        return f"statistically equal ({changed(training.marks)})"
    if device != "cpu" and not training.context.spec.resources.deterministic:
        return "statistically equal (a GPU, without resources.deterministic)"
    if training.silent or training.marks.episodes_cut:
        return "exact with resets"
    return "exact"


def changed(marks: Marks) -> str:
    """Returns what was not the same on all machines of a training, for its label."""
    names = marks.platform_changed if isinstance(marks.platform_changed, str) else _NOT_NAMED
    return f"{names} changed"


def note_platform(
    marks: Marks, before: Mapping[str, str | int], now: Mapping[str, str | int]
) -> None:
    """Mark a training if its numbers can differ in the last bit from here on.

    Args:
        marks: The marks of the training; changed.
        before: The platform of the checkpoint. Values that it does not have do not count.
        now: The platform here.
    """
    names = {_SHOWN.get(name, name) for name, value in before.items() if now.get(name) != value}
    if not names or marks.platform_changed is True:
        return
    known = str(marks.platform_changed).split(", ") if marks.platform_changed else []
    marks.platform_changed = ", ".join(sorted({*known, *names}))


def note_changes(
    marks: Marks,
    tree: TrainingState,
    platform: Mapping[str, str | int],
    settings: str | None,
    step: int,
    own: bool,
) -> None:
    """Mark a resumed training permanently if it differs from an uninterrupted one.

    Args:
        marks: The marks of the training; changed.
        tree: The checkpoint's content.
        platform: What bit-equality depends on here.
        settings: See ``settings_of``.
        step: The step of the checkpoint.
        own: False if the checkpoint belongs to another run, with other settings.
    """
    note_platform(marks, tree["platform"], platform)
    before = tree.get("settings")  # older checkpoints do not have it
    if not own:
        marks.changed_at = None
    elif before is not None and before != settings:
        marks.changed_at = step


def settings_of(mailbox: Mailbox) -> str | None:
    """A hash over everything that changes a training, except what has its own label.

    That is the number of copies, and the number of runs in one process.

    Returns:
        None if it was not recorded.
    """
    try:
        whole = dict(as_object(mailbox.experiment_record().identity_parts.get("training")))
    except NotFound:
        return None
    if not whole:
        return None
    train = {k: v for k, v in as_object(whole.get("train")).items() if k != "n_envs"}
    whole.pop("runs_per_process", None)  # part of the platform, which has its own label
    text = json.dumps({**whole, "train": train}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def platform_of(model: BaseAlgorithm) -> dict[str, str | int]:
    """What bit-equality depends on."""
    cuda = model.device.type == "cuda"
    more = model.platform() if hasattr(model, "platform") else {}
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
        **more,
    }
