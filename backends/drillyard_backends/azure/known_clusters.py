"""The clusters of a workspace as they were last read."""

from __future__ import annotations

import threading

from drillyard.backend import Liveness
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.azure import clusters
from drillyard_backends.azure.clusters import Cluster
from drillyard_backends.azure.service import Service

SETTLED_S = 120.0
"""Seconds for which a new cluster may be reported as missing; after that it is gone."""
_FRESH_S = 4.0


class KnownClusters:
    """Reads clusters, at most one request for each in a few seconds.

    Args:
        service: The workspace.
        clock: For the age of what was read.
    """

    def __init__(self, service: Service, clock: Clock = SYSTEM) -> None:
        self._service = service
        self._clock = clock
        self._lock = threading.RLock()
        self._read: dict[str, tuple[float, Cluster | None]] = {}
        """Name -> time of the last read, and the cluster."""
        self._seen: set[str] = set()
        """Names of clusters that existed or were deleted here: if missing, they are gone."""

    def read(self, name: str) -> Cluster | None:
        """Returns a cluster as it was a few seconds ago at most; None if it is missing."""
        with self._lock:
            now = self._clock.monotonic()
            known = self._read.get(name)
            if known is None or now - known[0] > _FRESH_S:
                known = self._read[name] = now, clusters.find(self._service, name)
                if known[1] is not None:
                    self._seen.add(name)
            return known[1]

    def missing(self, name: str, age_s: float) -> Liveness:
        """Returns the state of a missing cluster; a new one may be reported as missing.

        Args:
            name: The cluster.
            age_s: Age of its lease in seconds.
        """
        if age_s < SETTLED_S and name not in self._seen:
            return Liveness.UNKNOWN
        listed = any(each.get("name") == name for each in self._service.computes())
        return Liveness.UNKNOWN if listed else Liveness.GONE

    def deleted(self, name: str) -> None:
        """Notes that a cluster existed: from now on, missing means gone."""
        with self._lock:
            self._seen.add(name)

    def forget(self) -> None:
        """Lets the next ``read`` of every cluster ask again."""
        with self._lock:
            self._read.clear()
