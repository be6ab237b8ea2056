"""The clusters of a workspace as they were last read."""

from __future__ import annotations

import threading
from collections.abc import Callable

from drillyard.backend import Liveness
from drillyard.errors import ControlPlaneError
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.azure import clusters
from drillyard_backends.azure.clusters import Cluster
from drillyard_backends.azure.service import Service

SETTLED_S = 120.0
"""Seconds for which a new cluster may be reported as missing; after that it is gone."""
FRESH_S = 4.0


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
            if known is None or now - known[0] > FRESH_S:
                known = self._read[name] = now, clusters.find(self._service, name)
                if known[1] is not None:
                    self._seen.add(name)
            return known[1]

    def liveness(
        self, name: str, kept: bool, age_s: Callable[[], float], working: Callable[[], bool]
    ) -> Liveness:
        """Returns the state of a lease's cluster.

        Args:
            name: The cluster.
            kept: Whether it outlives the lease, so that another lease has the same one.
            age_s: Returns the age of the lease in seconds.
            working: Returns whether a job of the lease is unfinished.
        """
        cluster = self.read(name)
        if cluster is None:
            return self.missing(name, age_s())
        if cluster.state in clusters.READY:
            return Liveness.ALIVE
        if cluster.state == clusters.DELETING:
            return Liveness.UNKNOWN
        if cluster.state in clusters.BROKEN:
            # A change failed, which says nothing about the cluster's jobs. A kept one must not be
            # replaced, and `plan` refuses it.
            return Liveness.UNKNOWN if kept or working() else Liveness.GONE
        return Liveness.PENDING

    def must_stay(self, name: str) -> None:
        """Refuses a cluster that is being deleted: its jobs would end with it.

        Raises:
            ControlPlaneError: It is; once it is gone, the lease is replaced.
        """
        cluster = self.read(name)
        if cluster is not None and cluster.state == clusters.DELETING:
            raise ControlPlaneError(
                f"cluster {name} is being deleted", hint="the lease is replaced once it is gone"
            )

    def must_live(self, name: str, alive: Liveness, refusal: Exception) -> None:
        """Explains a refused job, if the state of the cluster does.

        Azure reports a user error if a cluster is deleted or changed after the last read.

        Args:
            name: The cluster.
            alive: Its state now.
            refusal: Azure's answer.

        Raises:
            ControlPlaneError: The cluster is gone, or not ready yet.
        """
        cluster = self.read(name)
        if alive is Liveness.ALIVE or (cluster is not None and cluster.state in clusters.BROKEN):
            return  # only the owner may correct it
        if alive is Liveness.GONE:
            raise ControlPlaneError(f"submit a job: cluster {name} is gone") from refusal
        self.must_stay(name)
        raise ControlPlaneError(f"submit a job: cluster {name} is not ready") from refusal

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
