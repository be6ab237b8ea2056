"""Checkpoints of a run: exact, atomic, free of pickle.

A checkpoint is taken at a barrier (see ``docs/explanation/resume.md``) and contains everything
that the rest of the run depends on. Its files are in the folder of the attempt that wrote it. The
manifest is written last: it is the commit point. It may name files of earlier checkpoints, so that
a replay buffer is stored once, as append-only segments.

    runs/<run>/attempts/train-<n>/checkpoints/<step>/<name>      tensors, arrays, JSON
    runs/<run>/attempts/train-<n>/checkpoints/<step>/manifest.json
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import CheckpointRefused, CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import save_file
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import AttemptStart, FileEntry, Phase, Record, RunRecord
from drillyard.runs.checkpoint_formats import Problem

_MANIFEST = re.compile(r"/train-(?P<attempt>\d+)/checkpoints/(?P<step>\d+)/manifest\.json\Z")
_FILE = re.compile(r"/train-(?P<attempt>\d+)/checkpoints/(?P<step>\d+)/[^/]+\Z")
log = logging.getLogger(__name__)


class CheckpointMeta(Record):
    """``manifest.json`` of a checkpoint."""

    run: str
    attempt: int
    step: int
    barrier: int
    """Number of barriers so far; the RNGs are reseeded from (seed, barrier)."""
    stream_offsets: dict[str, int] = Field(default_factory=dict)
    """Number of lines of each metric stream before the barrier."""
    files: dict[str, FileEntry] = Field(default_factory=dict)
    info: JsonObject = Field(default_factory=dict)
    written_at: float


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose every file was read and verified."""

    meta: CheckpointMeta
    files: dict[str, bytes]


def _path(mailbox: Mailbox, run: str, attempt: int, step: int) -> str:
    return f"{mailbox.attempt_path(run, Phase.TRAIN, attempt)}/checkpoints/{step:012d}"


def save(
    mailbox: Mailbox,
    run: str,
    attempt: int,
    step: int,
    barrier: int,
    files: Mapping[str, bytes | Path | FileEntry],
    stream_offsets: Mapping[str, int],
    written_at: float,
    info: Mapping[str, Json] | None = None,
) -> CheckpointMeta:
    """Write a checkpoint. It exists only when this function returns.

    Args:
        mailbox: Where.
        run: The run.
        attempt: The attempt that writes.
        step: Environment steps done.
        barrier: Number of barriers so far.
        files: Name -> bytes, a local file, or the entry of a stored file.
        stream_offsets: From ``StreamWriter.flush``, called just before.
        written_at: Epoch seconds.
        info: Small JSON for people.
    """
    folder = _path(mailbox, run, attempt, step)
    entries = {
        name: source
        if isinstance(source, FileEntry)
        else save_file(mailbox, f"{folder}/{name}", source)
        for name, source in files.items()
    }
    meta = CheckpointMeta(
        run=run,
        attempt=attempt,
        step=step,
        barrier=barrier,
        files=entries,
        stream_offsets=dict(stream_offsets),
        info=dict(info or {}),
        written_at=written_at,
    )
    mailbox.write(f"{folder}/manifest.json", meta)
    return meta


def read_meta(mailbox: Mailbox, run: str, attempt: int, step: int) -> CheckpointMeta:
    """The manifest of a checkpoint that must exist.

    Raises:
        CorruptObject: It does not.
    """
    path = f"{_path(mailbox, run, attempt, step)}/manifest.json"
    meta = mailbox.read(path, CheckpointMeta)
    if meta is None:
        raise CorruptObject(f"checkpoint {path} is missing")
    return meta


def found(mailbox: Mailbox, run: str) -> list[tuple[int, int]]:
    """(step, attempt) of every committed checkpoint of a run, newest step first."""
    prefix = mailbox.key(f"runs/{run}/attempts/")
    hits = [m for info in mailbox.store.list(prefix) if (m := _MANIFEST.search(info.key))]
    return sorted(((int(m["step"]), int(m["attempt"])) for m in hits), reverse=True)


def prune(mailbox: Mailbox, run: str, attempt: int, keep: int) -> list[int]:
    """Delete checkpoints that are no longer needed.

    It keeps the newest ones of the run and of the attempt, those that an attempt resumed from (the
    merged streams are cut at them), and every file that a kept manifest names. Files without a
    manifest are deleted.

    Args:
        mailbox: The experiment.
        run: The run.
        attempt: The attempt that owns the run. Files of later attempts are not touched.
        keep: How many of the newest ones to keep.

    Returns:
        The steps of the deleted ones, newest first.
    """
    keys = [info.key for info in mailbox.store.list(mailbox.key(f"runs/{run}/attempts/"))]
    files = [(k, (int(m["step"]), int(m["attempt"]))) for k in keys if (m := _FILE.search(k))]
    there = sorted({one for k, one in files if _MANIFEST.search(k)}, reverse=True)
    if len(there) <= keep:
        return []
    # An attempt that passed over damaged ones writes lower steps than theirs.
    written = [one for one in there if one[1] == attempt]
    needed = {*there[:keep], *written[:keep]} | _gone_on_from(mailbox, run, keys)
    metas = [read_meta(mailbox, run, number, step) for step, number in needed & set(there)]
    named = {mailbox.key(entry.key) for meta in metas for entry in meta.files.values()}
    old = [
        (k, one) for k, one in files if one not in needed and k not in named and one[1] <= attempt
    ]
    # Manifests first: without it a checkpoint does not exist, so that no reader gets half of one.
    for key, _ in sorted(old, key=lambda item: not item[0].endswith("/manifest.json")):
        mailbox.store.delete(key)
    return sorted({step for key, (step, _) in old if _MANIFEST.search(key)}, reverse=True)


def _gone_on_from(mailbox: Mailbox, run: str, keys: list[str]) -> set[tuple[int, int]]:
    attempts = set()
    for key in keys:
        if key.endswith("/start.json") and "/train-" in key:
            start = mailbox.read(key.removeprefix(mailbox.key("")), AttemptStart)
            if start is not None and start.resumed_attempt is not None:
                attempts.add((start.resumed_step or 0, start.resumed_attempt))
    return attempts


def latest(mailbox: Mailbox, run: str) -> Checkpoint | None:
    """The newest checkpoint that can be read completely; damaged ones are skipped and logged."""
    for step, attempt in found(mailbox, run):
        try:
            meta = read_meta(mailbox, run, attempt, step)
            return Checkpoint(meta, {n: mailbox.read_entry(e) for n, e in meta.files.items()})
        except CorruptObject as error:
            log.warning(
                "checkpoint of %s at step %d is damaged, taking an older one: %s", run, step, error
            )
    return None


def newest_size(mailbox: Mailbox) -> int:
    """Bytes of the newest checkpoints of all runs: what they read to continue elsewhere."""
    total = 0
    for run in mailbox.runs():
        for step, attempt in found(mailbox, run.run)[:1]:
            meta = read_meta(mailbox, run.run, attempt, step)
            total += sum(entry.size for entry in meta.files.values())
    return total


def inherited(mailbox: Mailbox, run: RunRecord) -> Checkpoint | None:
    """The checkpoint that a member of a population starts from: the last one of its parent.

    Args:
        mailbox: The experiment.
        run: A run without a checkpoint of its own.

    Returns:
        The checkpoint, whose ``meta.run`` is the parent's run; None for a run that starts anew.

    Raises:
        CorruptObject: The parent has no checkpoint that can be read completely.
    """
    before = _before(run)
    if before is None:
        return None
    checkpoint = latest(mailbox, before)
    if checkpoint is None:
        raise CorruptObject(
            f"{run.run} continues {before}, which has no complete checkpoint",
            hint="restore the folder of that run, or start the study again under a new name",
        )
    return checkpoint


def inherited_steps(mailbox: Mailbox, run: RunRecord) -> int:
    """Environment steps of the run that this run continues."""
    before = _before(run)
    return max((step for step, _ in found(mailbox, before)), default=0) if before else 0


def _before(run: RunRecord) -> str | None:
    parent = run.lineage.parent if run.lineage is not None else None
    return None if parent is None else run_id(parent, run.seed)


def refusal(meta: CheckpointMeta, name: str, problem: Problem) -> CheckpointRefused:
    """The error for a checkpoint that must not be resumed from.

    Args:
        meta: Its manifest.
        name: The file with the problem.
        problem: What is wrong with it.
    """
    entry = meta.files.get(name)
    key = entry.key if entry is not None else name
    return CheckpointRefused(
        f"the checkpoint of {meta.run} at step {meta.step:,}: {name} {problem.message}",
        file=key,
        field=problem.field,
        allowed=problem.allowed,
        hint=f"delete the folder {key.rpartition('/')[0]} in the experiment's folder, and the "
        "previous checkpoint is used; models of other programs cannot be resumed",
    )
