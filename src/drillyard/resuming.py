"""What must not be resumed: refused before anything is created, rented or posted.

A checkpoint with a wrong hash is damaged, and passed over for an older one: see
``checkpoints.latest``. What stands here is whole, and still nothing to go on from: it holds other
things than drillyard writes, numbers that are not finite, or it was made by another major version
of the learner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drillyard import checkpoints
from drillyard.checkpoint_files import examine
from drillyard.errors import CheckpointRefused, ConfigErrors, CorruptObject, IdentityChanged
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import ExperimentRecord, Phase
from drillyard.mailbox.store import ObjectMissing

LIBRARIES = ("drillyard", "stable-baselines3", "torch", "gymnasium", "numpy")
"""Libraries of which another major version trains otherwise."""
MAX_BYTES = 256 * 1024 * 1024
"""Larger files (replay buffers) are left to the worker that reads them anyway."""


def refuse(
    mailbox: Mailbox,
    before: ExperimentRecord | None,
    now: Mapping[str, str],
    runs: list[str],
    *,
    allow_change: bool = False,
) -> None:
    """Look at what unfinished runs would go on from. Reads only.

    Args:
        mailbox: The experiment.
        before: Its record as it is stored; None: there is nothing to resume.
        now: Versions of the libraries that are installed.
        runs: Ids of the runs that the experiment asks for.
        allow_change: Go on although versions differ.

    Raises:
        IdentityChanged: Another major version of a library; with both versions.
        CheckpointRefused: A checkpoint that holds what must not be read.
        ConfigErrors: Several of them.
    """
    if before is None:
        return
    latest = {run: found[0] for run in runs
              if mailbox.accepted(run, Phase.TRAIN) is None
              and (found := checkpoints.found(mailbox, run))}  # fmt: skip
    if not latest:
        return
    other = [f"{name}: {before.versions[name]} -> {now[name]}" for name in LIBRARIES
             if name in before.versions and name in now
             and _major(before.versions[name]) != _major(now[name])]  # fmt: skip
    if other and not allow_change:
        raise IdentityChanged(
            f"{mailbox.experiment!r} was begun with other versions, and a resume would not be "
            "exact:\n" + "\n".join(f"  {line}" for line in other),
            hint="install the versions it was begun with, choose a new name (--set name=…), or "
            "go on, statistically equal, by --allow-change",
        )
    problems = [
        error for run, (step, attempt) in latest.items()
        for error in _examined(mailbox, run, attempt, step)
    ]  # fmt: skip
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigErrors(problems)


def _examined(mailbox: Mailbox, run: str, attempt: int, step: int) -> Iterator[CheckpointRefused]:
    try:
        meta = checkpoints.read_meta(mailbox, run, attempt, step)
    except CorruptObject:
        return  # damaged: an older one is taken
    files: dict[str, bytes] = {}
    for name, entry in meta.files.items():
        if entry.size > MAX_BYTES:
            continue
        try:
            data = mailbox.store.get(mailbox.key(entry.key))
        except ObjectMissing:
            return
        if sha256_hex(data) != entry.sha256:
            return
        files[name] = data
    for name, problem in examine(files):
        yield checkpoints.refusal(meta, name, problem)


def _major(version: str) -> str:
    return version.partition(".")[0]
