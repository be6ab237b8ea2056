"""Managed instance groups and their machines as records, and the stage of a machine."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from drillyard_backends.gcp import naming
from drillyard_backends.gcp.zones import Place

_GOING = {"DELETING", "ABANDONING", "STOPPING", "SUSPENDING"}
_COMING = {
    "CREATING",
    "CREATING_WITHOUT_RETRIES",
    "RECREATING",
    "RESTARTING",
    "STARTING",
    "RESUMING",
}
_ENDING = {"STOPPING", "PENDING_STOP", "DEPROVISIONING", "SUSPENDING"}
_ENDED = {"TERMINATED", "STOPPED", "SUSPENDED"}


class Stage(enum.StrEnum):
    """Stage of a managed machine."""

    COMING = "coming"
    """Being created; see its ``trouble``."""
    UP = "up"
    GOING = "going"
    """Being stopped or deleted; it may still flush."""
    LOST = "lost"
    """Preempted, crashed or stopped, and not being recreated."""


@dataclass(frozen=True)
class Managed:
    """A machine as its group lists it.

    Attributes:
        name: Its name.
        machine: The name's parts.
        stage: Its stage.
        address: Path of the instance, from ``projects/`` on.
        trouble: Why it could not be created so far; an error of ``errors``.
        id: Google's number of the machine, which distinguishes it from an earlier machine of its
            name; empty if there is no machine.
        sure: False if only an empty status indicates that it is lost.
    """

    name: str
    machine: naming.Machine
    stage: Stage
    address: str
    trouble: Exception | None = None
    id: str = ""
    sure: bool = True


@dataclass(frozen=True, order=True)
class Group:
    """A group of a lease: its place and its variant of machine."""

    place: Place
    variant: int


@dataclass(frozen=True)
class Listed:
    """A group in the listing of the whole project."""

    name: str
    place: Place
    created: str
    """RFC 3339."""
    template: str
    """Name of its template."""


def stage(action: str, status: str) -> Stage:
    """Returns a machine's stage, from its group's action and its own status.

    Google has added values to both before. An unknown value proves nothing: only a machine that is
    known to have ended is lost.

    Args:
        action: ``currentAction`` of the managed instance.
        status: ``instanceStatus``; empty if there is no instance.
    """
    if action in _GOING or (action in ("", "NONE") and status in _ENDING):
        return Stage.GOING
    idle = action in ("", "NONE")
    if action in _COMING or (not idle and (not status or status in _ENDED)):
        return Stage.COMING
    return Stage.LOST if not status or status in _ENDED else Stage.UP
