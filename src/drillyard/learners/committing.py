"""Writes checkpoints in a thread, so that the training does not wait for the store."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from drillyard.documents.json_types import Json
from drillyard.errors import InfrastructureError, Superseded
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import AttemptStart, FileEntry
from drillyard.metrics.streams import StreamWriter
from drillyard.runs import checkpoints
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.workload import RunContext

log = logging.getLogger(__name__)


class Committer:
    """Runs one action at a time in a separate thread, in the order of the calls.

    The data of an action must not change later: the caller copies it out of the training.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, action: Callable[[], None]) -> None:
        """Begin an action when the previous one has ended.

        Raises:
            Exception: What the previous one raised.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._work, args=(action,), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until no action is running.

        Raises:
            Exception: What the last action raised. It is raised only once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:
            self._error = error


def save(
    context: RunContext,
    writer: StreamWriter,
    step: int,
    barrier: int,
    files: Mapping[str, bytes | Path | FileEntry],
    offsets: Mapping[str, int],
    info: Mapping[str, Json] | None = None,
) -> dict[str, FileEntry]:
    """Write a checkpoint, and before it the lines up to its step; it waits out a short outage.

    Args:
        context: The attempt.
        writer: Its lines. Later ones may be written too; a resume cuts them off.
        step: Environment steps done.
        barrier: Number of barriers so far.
        files: See ``checkpoints.save``.
        offsets: Number of lines of each stream at this step.
        info: Small JSON for people.

    Returns:
        The entries of its files.

    Raises:
        StoreUnavailable: The store stayed unreachable; the checkpoint does not exist.
    """
    now = context.clock.now()

    def write() -> checkpoints.CheckpointMeta:
        writer.flush()
        return checkpoints.save(
            context.mailbox,
            context.run.run,
            context.attempt,
            step,
            barrier,
            files,
            offsets,
            now,
            info=info,
        )

    with context.transfers:  # in this thread; the training may wait for it
        return dict(persist(write).files)


def prune(context: RunContext) -> None:
    """Delete old checkpoints, unless the store is unavailable or the run has a new owner."""
    train = context.spec.train
    if train is None or train.keep_checkpoints is None:
        return
    try:
        context.mailbox.must_own(context.claim)
        checkpoints.prune(
            context.mailbox, context.run.run, context.attempt, train.keep_checkpoints
        )
    except (InfrastructureError, Superseded) as error:
        log.warning("old checkpoints were not deleted: %s", error)


def announce(context: RunContext, checkpoint: Checkpoint | None) -> None:
    """Write where this attempt continues: readers cut the streams of the previous attempt there.

    Args:
        context: The attempt.
        checkpoint: The checkpoint of its own run, None to begin.
    """
    start = AttemptStart(
        attempt=context.attempt,
        resumed_attempt=checkpoint.meta.attempt if checkpoint else None,
        resumed_step=checkpoint.meta.step if checkpoint else None,
        worker=context.claim.worker,
        host=platform.node(),
        started_at=context.clock.now(),
    )
    persist(lambda: context.mailbox.write(f"{context.folder}/start.json", start))
