"""Ends groups with their machines, as many as possible in one short wait."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from drillyard.errors import ControlPlaneError, DrillyardError
from drillyard.system.clock import Clock
from drillyard_backends.gcp.errors import Exists, InUse, Missing
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.zones import Place

WAIT_S = 20.0
"""Seconds that one teardown waits for groups, so that it can delete their templates, too."""
log = logging.getLogger(__name__)


def end_groups(groups: Groups, places: Iterable[tuple[Place, str]], clock: Clock) -> bool:
    """Requests the end of groups; returns True if all are gone after a short wait.

    Args:
        groups: Makes the calls.
        places: Place and name of each group.
        clock: Clock for waiting.
    """
    requested, gone = [], True
    for place, name in places:
        try:
            requested.append((place, name, groups.delete(place, name)))
        except (InUse, Exists, ControlPlaneError) as error:
            # Delete the others anyway: each of them costs money.
            log.info("%s; will be tried again", error)
            gone = False
            if not isinstance(error, ControlPlaneError):
                _delete_machines(groups, place, name)
    deadline = clock.monotonic() + WAIT_S
    for place, name, operation in requested:
        if operation is None:
            continue
        try:
            groups.wait_deleted(place, name, operation, max(0.0, deadline - clock.monotonic()))
        except (InUse, Exists, ControlPlaneError) as error:
            log.info("%s; will be tried again", error)
            gone = False
        except Missing:
            continue
    return gone


def _delete_machines(groups: Groups, place: Place, name: str) -> None:
    """Requests the end of the machines of a group that refuses its own end: they cost."""
    try:
        groups.delete_machines(place, name, groups.machines(place, name))
    except (Missing, DrillyardError) as error:
        log.info("the machines of %s: %s; will be tried again", name, error)
