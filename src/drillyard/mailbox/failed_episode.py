"""The record of the episode in which a simulator failed, written by the attempt that it ended."""

from __future__ import annotations

import re

from pydantic import Field

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.records import Phase, Record

NAME = "failed_episode.json"
_KEY = re.compile(r"/attempts/(?P<phase>train|evaluate)-(?P<attempt>\d+)/failed_episode\.json\Z")


class FailedEpisode(Record):
    """``runs/<run>/attempts/<phase>-<attempt>/failed_episode.json``."""

    run: str
    phase: Phase
    attempt: int
    code: str | None = None
    """sha256 of the code bundle that failed."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of Python and of the packages that computed."""
    step: int | None = None
    """Step of the episode that failed, 0 for the reset; None where the process ended in it."""
    training_step: int | None = None
    message: str = ""
    about: JsonObject
    """What makes the simulator again."""
    start: JsonObject
    """Where the record begins, see ``drillyard.simulators.episode_recorder``."""
    steps: str
    """The steps after it, see ``drillyard.system.episode_memory``."""
    at: float


def path(run: str, phase: Phase, attempt: int) -> str:
    """Where the record of an attempt is."""
    return f"{Mailbox.attempt_path(run, phase, attempt)}/{NAME}"


def newest(mailbox: Mailbox, run: str) -> FailedEpisode | None:
    """The record of the last attempt that has one.

    Args:
        mailbox: The experiment.
        run: Its run.

    Raises:
        CorruptObject: It is damaged.
    """
    episodes = []
    for info in mailbox.store.list(mailbox.key(f"runs/{run}/attempts/")):
        if match := _KEY.search(info.key):
            episodes.append((info.updated_at, int(match["attempt"]), Phase(match["phase"])))
    if not episodes:
        return None
    _, attempt, phase = max(episodes)
    return mailbox.read(path(run, phase, attempt), FailedEpisode)
