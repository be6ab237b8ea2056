"""Checkpoints of a run: exact, atomic, free of pickle.

A checkpoint is taken at a barrier (see ``docs/resume.md``) and stands for everything that the rest
of the run depends on. Its files lie under the attempt that wrote it, the manifest is written last
(it is the commit point), and a manifest may name files of earlier checkpoints, so that a replay
buffer is stored once, as append-only segments.

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
from drillyard.runs.checkpoint_files import Problem

_MANIFEST = re.compile(r"/train-(?P<attempt>\d+)/checkpoints/(?P<step>\d+)/manifest\.json\Z")
_FILE = re.compile(r"/train-(?P<attempt>\d+)/checkpoints/(?P<step>\d+)/[^/]+\Z")
log = logging.getLogger(__name__)


class CheckpointMeta(Record):
    """``manifest.json`` of a checkpoint."""

    run: str
    attempt: int
    step: int
    barrier: int
    """How many barriers lie behind; the RNGs are reseeded from (seed, barrier)."""
    stream_offsets: dict[str, int] = Field(default_factory=dict)
    """Lines of each metric stream that lie before the barrier."""
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
    """Write a checkpoint; it exists when this returns, and not before.

    Args:
        mailbox: Where.
        run: The run.
        attempt: The attempt that writes.
        step: Environment steps done.
        barrier: Barriers behind us.
        files: Name -> bytes, a local file, or the entry of a file that is stored already.
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
    """Delete checkpoints that nothing needs any more.

    Kept are the newest ones, those that an attempt went on from (the merged streams are cut at
    them), and every file that a kept manifest names, wherever it lies. What was never committed
    goes too.

    Args:
        mailbox: Where.
        run: The run.
        attempt: Ours, which owns the run; what a later one writes is left alone.
        keep: How many of the newest.

    Returns:
        The steps of the deleted ones, newest first.
    """
    keys = [info.key for info in mailbox.store.list(mailbox.key(f"runs/{run}/attempts/"))]
    files = [(k, (int(m["step"]), int(m["attempt"]))) for k in keys if (m := _FILE.search(k))]
    there = sorted({one for k, one in files if _MANIFEST.search(k)}, reverse=True)
    if len(there) <= keep:
        return []
    needed = set(there[:keep]) | _gone_on_from(mailbox, run, keys)
    metas = [read_meta(mailbox, run, number, step) for step, number in needed & set(there)]
    named = {mailbox.key(entry.key) for meta in metas for entry in meta.files.values()}
    old = [
        (k, one) for k, one in files if one not in needed and k not in named and one[1] <= attempt
    ]
    # Manifests first: from then on these checkpoints do not exist, and nobody reads half of one.
    for key, _ in sorted(old, key=lambda found: not found[0].endswith("/manifest.json")):
        mailbox.store.delete(key)
    return sorted({step for key, (step, _) in old if _MANIFEST.search(key)}, reverse=True)


def _gone_on_from(mailbox: Mailbox, run: str, keys: list[str]) -> set[tuple[int, int]]:
    found = set()
    for key in keys:
        if key.endswith("/start.json") and "/train-" in key:
            start = mailbox.read(key.removeprefix(mailbox.key("")), AttemptStart)
            if start is not None and start.resumed_attempt is not None:
                found.add((start.resumed_step or 0, start.resumed_attempt))
    return found


def latest(mailbox: Mailbox, run: str) -> Checkpoint | None:
    """The newest checkpoint that reads back whole; damaged ones are passed over and reported."""
    for step, attempt in found(mailbox, run):
        try:
            meta = read_meta(mailbox, run, attempt, step)
            return Checkpoint(meta, {n: mailbox.read_entry(e) for n, e in meta.files.items()})
        except CorruptObject as error:
            log.warning(
                "checkpoint of %s at step %d is damaged, taking an older one: %s", run, step, error
            )
    return None


def inherited(mailbox: Mailbox, run: RunRecord) -> Checkpoint | None:
    """What a member of a population begins with: the last checkpoint of the run before it.

    Args:
        mailbox: The experiment.
        run: A run without a checkpoint of its own.

    Returns:
        The checkpoint, whose ``meta.run`` is the other run; None for one that begins anew.

    Raises:
        CorruptObject: That run has none that reads back whole.
    """
    before = _before(run)
    if before is None:
        return None
    checkpoint = latest(mailbox, before)
    if checkpoint is None:
        raise CorruptObject(
            f"{run.run} goes on from {before}, which has no checkpoint that reads back whole",
            hint="restore the folder of that run, or begin the study again under a new name",
        )
    return checkpoint


def inherited_steps(mailbox: Mailbox, run: RunRecord) -> int:
    """Environment steps that a run was given by the one that it goes on from."""
    before = _before(run)
    return max((step for step, _ in found(mailbox, before)), default=0) if before else 0


def _before(run: RunRecord) -> str | None:
    parent = run.lineage.parent if run.lineage is not None else None
    return None if parent is None else run_id(parent, run.seed)


def refusal(meta: CheckpointMeta, name: str, problem: Problem) -> CheckpointRefused:
    """The error for a checkpoint that must not be resumed from.

    Args:
        meta: Its manifest.
        name: The file that is to blame.
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
        "checkpoint before it is taken; models of other programs are not resumed from",
    )
