"""Refuses what must not be resumed, before anything is created, rented or posted.

A checkpoint with a wrong hash is damaged, and an older one is used: see ``checkpoints.latest``.
Here are checkpoints that can be read but not resumed: with content that drillyard does not write,
with numbers that are not finite, from another major version of the learner, or from another
simulator or network.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from drillyard.errors import (
    CheckpointRefused,
    ConfigError,
    ConfigErrors,
    CorruptObject,
    DrillyardError,
    IdentityChanged,
    SpaceMismatch,
)
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import ExperimentRecord, Phase
from drillyard.runs import checkpoints
from drillyard.runs.checkpoint_formats import examine
from drillyard.runs.checkpoints import Checkpoint
from drillyard.spec.binding import bound
from drillyard.system.watchdog import ChildDied, HangError, keep_alive, run_watched

if TYPE_CHECKING:
    from drillyard.spec.load import Loaded

LIBRARIES = ("drillyard", "stable-baselines3", "torch", "gymnasium", "numpy")
"""Libraries whose major versions train differently."""
MAX_BYTES = 256 * 1024 * 1024
"""Larger files (replay buffers) are checked by the worker, which has to read them anyway."""


def refuse(
    loaded: Loaded,
    mailbox: Mailbox,
    before: ExperimentRecord | None,
    now: Mapping[str, str],
    runs: list[str],
    *,
    allow_change: bool = False,
) -> None:
    """Check the checkpoints that unfinished runs would continue from. It only reads.

    Args:
        loaded: The experiment in its file.
        mailbox: The experiment in the store.
        before: Its stored record; None: there is nothing to resume.
        now: Versions of the installed libraries.
        runs: Ids of the runs that the experiment asks for.
        allow_change: Continue although versions differ.

    Raises:
        IdentityChanged: Another major version of a library; with both versions.
        CheckpointRefused: A checkpoint with forbidden content, or of another network.
        SpaceMismatch: A checkpoint of another simulator.
        ConfigErrors: Several of them.
    """
    if before is None:
        return
    latest = {
        run: found[0]
        for run in runs
        if mailbox.accepted(run, Phase.TRAIN) is None
        and (found := checkpoints.found(mailbox, run))
    }
    if not latest:
        return
    other = [
        f"{name}: {before.versions[name]} -> {now[name]}"
        for name in LIBRARIES
        if name in before.versions
        and name in now
        and _major(before.versions[name]) != _major(now[name])
    ]
    if other and not allow_change:
        raise IdentityChanged(
            f"{mailbox.experiment!r} was started with other versions, and a resume would not be "
            "exact:\n" + "\n".join(f"  {line}" for line in other),
            hint="install the versions it was started with, choose a new name (--set name=…), "
            "or continue with --allow-change (statistically equal)",
        )
    problems: list[ConfigError] = []
    readable: list[Checkpoint] = []
    for run, (step, attempt) in latest.items():
        checkpoint = _read(mailbox, run, attempt, step)
        if checkpoint is None:
            continue  # damaged: an older one is used
        bad = [
            checkpoints.refusal(checkpoint.meta, name, problem)
            for name, problem in examine(checkpoint.files)
        ]
        problems += bad
        if not bad and checkpoint.files.keys() == checkpoint.meta.files.keys():
            readable.append(checkpoint)
    problems += _of_another(loaded, mailbox, readable)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigErrors(problems)


def _read(mailbox: Mailbox, run: str, attempt: int, step: int) -> Checkpoint | None:
    """A checkpoint without its large files; None where it is damaged."""
    files: dict[str, bytes] = {}
    try:
        meta = checkpoints.read_meta(mailbox, run, attempt, step)
        for name, entry in meta.files.items():
            if entry.size <= MAX_BYTES:
                files[name] = mailbox.read_entry(entry)
    except CorruptObject:
        return None
    return Checkpoint(meta, files)


def _of_another(loaded: Loaded, mailbox: Mailbox, readable: list[Checkpoint]) -> list[ConfigError]:
    """Checkpoints that do not fit the model that would continue them, as far as known here.

    The model is built as a worker would build it, so Stable-Baselines3 has to be installed here.
    Without it, and if the simulator cannot be created here, the worker refuses.
    """
    from drillyard.spec.algorithms.argument_table import ARGUMENTS
    from drillyard.system.import_path import working_in

    learner = loaded.spec.learner
    built_in = learner is not None and learner.algorithm in ARGUMENTS
    if not readable or not built_in or find_spec("stable_baselines3") is None:
        return []

    def look() -> list[ConfigError]:
        with keep_alive("importing torch"):
            from drillyard.learners.resumable import must_fit
        problems: list[ConfigError] = []
        for checkpoint in readable:
            try:
                # The model is built with one copy; warnings about that would mislead.
                with warnings.catch_warnings(action="ignore"):
                    must_fit(checkpoint, bound(loaded.spec, mailbox.run(checkpoint.meta.run)))
            except (CheckpointRefused, SpaceMismatch) as error:
                problems.append(error)
            except DrillyardError:
                continue  # a problem of the experiment itself, which `check` reports
        return problems

    with working_in(loaded.folder):
        try:
            return run_watched(look, loaded.spec.budget.check_s, "importing torch")
        except (HangError, ChildDied):
            return []


def _major(version: str) -> str:
    return version.partition(".")[0]
