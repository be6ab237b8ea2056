"""Leases that get no node: all jobs stay in the queue, or the kept cluster is broken.

Azure says in no documented field that a region is full: jobs stay in the queue. So the time
without any node decides, however the service words it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drillyard.errors import NoCapacity
from drillyard_backends.azure import clusters
from drillyard_backends.azure.clusters import Cluster
from drillyard_backends.azure.jobs import Job
from drillyard_backends.azure.settings import AzureConfig

SAID_S = 120.0
"""Seconds without a node after which the user is told, if Azure gives no reason."""
BROKEN_S = 30.0
"""Seconds for which a kept cluster without a job of ours may be broken: a set-up would wait for
it for half an hour, and another lease has the same cluster."""


class Waiting:
    """Since when leases wait for a node, by the monotonic clock.

    Args:
        config: The settings.
        words: Returns what the service says of the cluster of a name.
    """

    def __init__(self, config: AzureConfig, words: Callable[[str], list[str]]) -> None:
        self._config = config
        self._words = words
        self._queued_since: dict[str, float] = {}
        self._broken_since: dict[str, float] = {}

    def check_jobs(self, lease_id: str, name: str, jobs: Sequence[Job], now: float) -> None:
        """Gives up a lease whose jobs have all waited for too long.

        Args:
            lease_id: The lease.
            name: Its cluster.
            jobs: Its unfinished jobs.
            now: Monotonic seconds.

        Raises:
            NoCapacity: They have waited for a first node for longer than ``capacity_s``.
        """
        limit_s, waits_s = self._config.capacity_s, self._waits_s(lease_id, jobs, now)
        if limit_s is not None and waits_s > limit_s:
            raise NoCapacity(
                f"{len(jobs)} jobs have waited for {limit_s:.0f} s, and no node came: "
                f"{'; '.join(self._words(name))}",
                hint="list more sizes (vm_sizes) or regions (locations), or raise capacity_s",
            )

    def reasons(
        self, lease_id: str, cluster: Cluster | None, jobs: Sequence[Job], now: float
    ) -> list[str]:
        """Returns why no node comes for a lease; empty while one may be on its way.

        Args:
            lease_id: The lease.
            cluster: Its cluster; None if it is missing.
            jobs: Its unfinished jobs.
            now: Monotonic seconds.
        """
        waits_s = self._waits_s(lease_id, jobs, now)
        if cluster is None or cluster.nodes or not any(job.status == "Queued" for job in jobs):
            return []
        if not cluster.errors and waits_s < SAID_S:
            return []
        why = "; ".join(cluster.errors) or "Azure gives no reason"
        c = self._config
        limit = "budget.max_hours" if c.capacity_s is None else f"capacity_s, {c.capacity_s:.0f} s"
        return [
            f"cluster {cluster.name} has 0 of at most {cluster.most} nodes: {why} "
            f"(jobs wait in Azure's queue until {limit})"
        ]

    def _waits_s(self, lease_id: str, jobs: Sequence[Job], now: float) -> float:
        """Returns for how long all jobs of a lease have waited for a first node, in seconds."""
        if not jobs or any(job.status != "Queued" for job in jobs):
            self._queued_since.pop(lease_id, None)
            return 0.0
        return now - self._queued_since.setdefault(lease_id, now)

    def check_cluster(
        self, lease_id: str, cluster: Cluster | None, busy: bool, now: float
    ) -> None:
        """Gives up a kept cluster that could not be created, or changed.

        Args:
            lease_id: The lease.
            cluster: Its cluster; None if it is missing.
            busy: Whether a job of the lease is unfinished: then the cluster may work.
            now: Monotonic seconds.

        Raises:
            NoCapacity: It has been broken for some time, with the service's reason.
        """
        broken = cluster is not None and cluster.state in clusters.BROKEN
        if cluster is None or not broken or busy or self._config.compute is None:
            self._broken_since.pop(lease_id, None)
        elif now - self._broken_since.setdefault(lease_id, now) > BROKEN_S:
            c = self._config
            why = "; ".join(cluster.errors) or "Azure gives no reason"
            raise NoCapacity(
                f"cluster {cluster.name} is {cluster.state}: {why}",
                hint="delete it, and run the same command again: az ml compute delete --name "
                f"{cluster.name} --resource-group {c.resource_group} --workspace-name "
                f"{c.workspace}; or set another backends.azure.compute",
            )
