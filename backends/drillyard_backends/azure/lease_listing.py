"""The leases of a workspace, from the listings of its clusters and jobs."""

from __future__ import annotations

from collections.abc import Iterable

from drillyard.backend import Order
from drillyard_backends.azure import clusters, naming, plan
from drillyard_backends.azure.clusters import Cluster
from drillyard_backends.azure.jobs import Job
from drillyard_backends.azure.service import Service


def is_listed(service: Service, lease_id: str, jobs: Iterable[Job]) -> bool:
    """Returns whether a lease has an unfinished job or a cluster.

    The workspace keeps every job that ever ran, so that a listing of all gets longer each week. A
    teardown asks every few seconds, and needs the jobs of its own lease alone.

    Args:
        service: Sends the requests.
        lease_id: The lease.
        jobs: Its jobs, from a new listing.
    """
    return any(not job.over for job in jobs) or bool(_own(service, lease_id))


def is_idle(service: Service, lease_id: str, jobs: Iterable[Job]) -> bool:
    """Returns whether a lease has neither an unfinished job nor a node of its own cluster.

    Args:
        service: Sends the requests.
        lease_id: The lease.
        jobs: Its jobs, from a new listing.
    """
    if any(not job.over for job in jobs):
        return False
    return all(cluster.nodes == 0 for cluster in _own(service, lease_id))


def _own(service: Service, lease_id: str) -> list[Cluster]:
    existing = [Cluster.of(each) for each in service.computes()]
    return [
        cluster
        for cluster in existing
        if lease_id in (cluster.tags.get(naming.LEASE_TAG), clusters.lease_of(cluster.name))
    ]


def listed_orders(service: Service) -> dict[str, tuple[Order, float]]:
    """Returns the order and the time of creation of each lease that has a cluster or a job.

    Args:
        service: Sends the requests.
    """
    orders: dict[str, tuple[Order, float]] = {}
    existing = [Cluster.of(each) for each in service.computes()]
    jobs = [Job.of(each) for each in service.jobs(naming.MARK)]
    tagged = [(cluster.tags, cluster.created_at) for cluster in existing]
    tagged += [(dict(job.tags or {}), job.created_at) for job in jobs if not job.over]
    for tags, created_at in tagged:
        order = naming.outline(tags)
        if order is not None:
            orders.setdefault(order.lease_id, (order, created_at))
    for cluster in existing:
        # Its name shows its lease, even without tags.
        lease_id = clusters.lease_of(cluster.name)
        if lease_id is not None and lease_id not in orders:
            over_at = cluster.created_at + plan.LONGEST_S  # none of its jobs can run then
            order = Order(lease_id=lease_id, experiment="", store_url="", deadline=over_at)
            orders[lease_id] = order, cluster.created_at
    return orders
