"""Policies of a training's remaining checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors.torch import save as save_tensors

from drillyard.agents.base import LoadedPolicy, load_policy
from drillyard.agents.packing import ARRAYS_NAME, JSON_NAME, TENSORS_NAME, npz_bytes, unpack
from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.runs import checkpoints
from drillyard.runs.checkpoint_formats import examine

_FILES = (JSON_NAME, ARRAYS_NAME, TENSORS_NAME)


def earlier(mailbox: Mailbox, run: str, files: Mapping[str, bytes]) -> dict[int, LoadedPolicy]:
    """The policy of each checkpoint, by its step, oldest first.

    Args:
        mailbox: The experiment.
        run: The run.
        files: ``learner.json`` and ``spaces.json`` of its result.

    Raises:
        CorruptObject: A checkpoint is not what was written.
    """
    # Of one step, that of the newest attempt.
    newest = dict(reversed(checkpoints.found(mailbox, run)))
    return {
        step: _policy(checkpoints.read_meta(mailbox, run, attempt, step), mailbox, files)
        for step, attempt in newest.items()
    }


def _policy(
    meta: checkpoints.CheckpointMeta, mailbox: Mailbox, files: Mapping[str, bytes]
) -> LoadedPolicy:
    # Not the replay buffer, which may be gigabytes.
    parts = {name: mailbox.read_entry(meta.files[name]) for name in _FILES if name in meta.files}
    for name, problem in examine(parts):
        raise checkpoints.refusal(meta, name, problem)
    tree = unpack(parts)
    try:
        rebuilt = {
            **files,
            "policy_final.safetensors": save_tensors(
                {n: t.contiguous() for n, t in tree["model"]["modules"]["policy"].items()}
            ),
        }
        if tree["normalisation"] is not None:
            rebuilt["normalisation_final.npz"] = npz_bytes(tree["normalisation"])
    except (KeyError, TypeError) as error:
        raise CorruptObject(f"the checkpoint at step {meta.step:,} has no policy") from error
    return load_policy(rebuilt, "final")
