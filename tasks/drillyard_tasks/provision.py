"""Rent what the experiment needs, or adopt what is rented already."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task

from drillyard.backend import HasConsole, Lease
from drillyard.driver.bodies import Body
from drillyard.driver.driver import Driver
from drillyard_tasks.common import INFRASTRUCTURE
from drillyard_tasks.publisher import artifact_key


@task(name="provision", task_run_name="provision", **INFRASTRUCTURE)
def provision(body: Body, driver: Driver) -> dict[str, Any]:
    """Wait for the lease.

    Args:
        body: The phase.
        driver: Knows the backend.

    Returns:
        ``{"lease", "backend", "workers"}``.

    Raises:
        DrillyardError: From the backend: no capacity, no permission, a wrong order.
    """
    lease = body.join_for(Lease)
    get_run_logger().info("lease %s on %s", lease.lease_id, lease.backend)
    if isinstance(driver.backend, HasConsole):
        _link(driver.backend.console(lease), driver.mailbox.experiment)
    return {
        "lease": lease.lease_id,
        "backend": lease.backend,
        "workers": lease.order.workers,
    }


def _link(page: str, experiment: str) -> None:
    """Where the provider itself shows the machines, while they are there."""
    from prefect.artifacts import create_link_artifact

    log, what = get_run_logger(), f"Machines of {experiment} at their provider"
    log.info("machines: %s", page)
    try:
        create_link_artifact(
            page, link_text=what, key=artifact_key("machines", experiment), description=what
        )
    except Exception as error:  # a page without it must not end the work
        log.debug("no link to the machines: %s", error)
