"""The first record that an attempt of a training writes."""

from __future__ import annotations

import platform

from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import AttemptStart
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.workload import RunContext


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
