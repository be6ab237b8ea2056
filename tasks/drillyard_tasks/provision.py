"""Rent what the experiment needs, or adopt what is rented already."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task

from drillyard.open_drivers import current
from drillyard_tasks.common import INFRASTRUCTURE


@task(name="provision", task_run_name="provision", **INFRASTRUCTURE)
def provision(store: str, experiment: str) -> dict[str, Any]:
    """Rent a lease.

    Args:
        store: URL of the mailbox's store.
        experiment: The experiment's name.

    Returns:
        ``{"lease", "backend", "workers"}``.

    Raises:
        DrillyardError: From the backend: no capacity, no permission, a wrong order.
    """
    lease = current(store, experiment).provision()
    get_run_logger().info("lease %s on %s", lease.lease_id, lease.backend)
    return {
        "lease": lease.lease_id,
        "backend": lease.backend,
        "workers": lease.order.workers,
    }
