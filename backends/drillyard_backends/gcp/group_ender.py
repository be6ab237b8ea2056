"""Ends groups with their machines, as many as possible in one short wait."""

from __future__ import annotations

import logging

from drillyard.errors import ControlPlaneError, DrillyardError
from drillyard.system.clock import Clock
from drillyard_backends.gcp.errors import Exists, InUse, Missing
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.operations import Compute
from drillyard_backends.gcp.zones import Place

WAIT_S = 20.0
"""Seconds that one teardown waits for groups, so that it can delete their templates, too."""
log = logging.getLogger(__name__)


class GroupEnder:
    """Ends groups.

    Args:
        groups: Makes the calls.
        compute: Waits for operations.
        clock: Clock for waiting.
    """

    def __init__(self, groups: Groups, compute: Compute, clock: Clock) -> None:
        self._groups = groups
        self._compute = compute
        self._clock = clock

    def end(self, groups: list[tuple[Place, str]]) -> bool:
        """Requests the end of groups; returns True if all are gone after a short wait."""
        requested, gone = [], True
        for place, name in groups:
            try:
                requested.append((place, name, self._groups.delete(place, name)))
            except (InUse, Exists, ControlPlaneError) as error:
                # Delete the others anyway: each of them costs money.
                log.info("%s; will be tried again", error)
                gone = False
                if not isinstance(error, ControlPlaneError):
                    self._delete_machines(place, name)
        deadline = self._clock.monotonic() + WAIT_S
        for place, name, operation in requested:
            if operation is not None:
                left_s = max(0.0, deadline - self._clock.monotonic())
                try:
                    self._compute.wait(f"delete group {name}", operation, place, left_s)
                except (InUse, Exists, ControlPlaneError) as error:
                    log.info("%s; will be tried again", error)
                    gone = False
                except Missing:
                    continue
        return gone

    def _delete_machines(self, place: Place, name: str) -> None:
        """Requests the end of the machines of a group that refuses its own end: they cost."""
        try:
            self._groups.delete_machines(place, name, self._groups.machines(place, name))
        except (Missing, DrillyardError) as error:
            log.info("the machines of %s: %s; will be tried again", name, error)
