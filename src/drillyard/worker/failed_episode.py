"""Stores the episode in which a simulator failed, for ``drillyard replay``."""

from __future__ import annotations

import logging
from pathlib import Path

from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.mailbox import failed_episode as records
from drillyard.mailbox.failed_episode import FailedEpisode
from drillyard.mailbox.records import Ending
from drillyard.system import episode_memory, step_marker
from drillyard.system.episode_memory import RESET, Memory
from drillyard.worker.machine import Job

log = logging.getLogger(__name__)


def store(job: Job, mailbox: Mailbox, ending: Ending, at: float, *, ended: bool = False) -> Ending:
    """Store the record of the episode that failed in an attempt, if there is one.

    Args:
        job: The attempt.
        mailbox: Its experiment.
        ending: How the attempt ended.
        at: Now, seconds since the epoch.
        ended: The process ended in the simulator, without a word of its own.

    Returns:
        The ending, with the place of the failure and the command that replays it.
    """
    memory = _ended_in(job.scratch) if ended else failed_memory(job.scratch)
    if memory is None:
        return ending
    ticket = job.ticket
    try:
        ending = _placed(ending, memory, mailbox.run(ticket.run).seed)
        experiment = mailbox.experiment_record()
        record = FailedEpisode(
            run=ticket.run,
            phase=ticket.phase,
            attempt=job.claim.attempt,
            code=experiment.code,
            versions=experiment.versions,
            step=memory.failed,
            training_step=episode_memory.training_step,
            message=ending.message,
            about=memory.about,
            start=memory.start,
            steps=memory.packed(),
            at=at,
        )
        mailbox.write(records.path(ticket.run, ticket.phase, job.claim.attempt), record)
    except (DrillyardError, ValueError) as error:
        log.warning("the episode that failed was not stored: %s", error)
        return ending
    hint_text = f"{ending.hint}; " if ending.hint else ""
    command = f"drillyard replay {job.experiment}/{ticket.run}"
    return ending.model_copy(update={"hint": f"{hint_text}`{command}` replays that episode"})


def _placed(ending: Ending, memory: Memory, seed: int) -> Ending:
    """The ending with the episode and the run's seed, where its message lacks them."""
    entries = memory.entries()
    number = int(str(memory.start["episode"])) + sum(e.kind == RESET for e in entries)
    more = []
    if f"episode {number}" not in ending.message and not memory.about["together"]:
        more.append(f"episode {number} of copy {memory.about['copy']}")
    if "run seed" not in ending.message:
        more.append(f"run seed {seed}")
    return ending.model_copy(update={"message": "; ".join([ending.message, *more])})


def failed_memory(scratch: Path) -> Memory | None:
    """The memory of the copy that failed; of several in one step, that which is reported.

    Args:
        scratch: Folder of the attempt.
    """
    episodes = [m for m in episode_memory.read(scratch) if m.failed is not None]
    return min(episodes, key=lambda m: int(str(m.about["copy"])), default=None)


def _ended_in(scratch: Path) -> Memory | None:
    marked = step_marker.found_inside(scratch)
    if marked is None:
        return None
    return next((m for m in episode_memory.read(scratch) if m.is_at(*marked)), None)
