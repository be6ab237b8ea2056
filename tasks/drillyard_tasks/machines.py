"""The tasks ``provision``, ``setup`` and ``teardown``, which wait for machines."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.backend import HasConsole, Lease
from drillyard.documents.json_types import JsonObject
from drillyard.driver.bodies import Body, ReadyWorkers
from drillyard.driver.driver import Driver
from drillyard.errors import Stopped
from drillyard_tasks.common import INFRASTRUCTURE, EndState, stopped
from drillyard_tasks.publisher import artifact_key


@task(name="provision", task_run_name="provision", **INFRASTRUCTURE)
def provision(body: Body, driver: Driver) -> JsonObject | EndState:
    """Waits for the lease.

    Args:
        body: The phase.
        driver: Driver that knows the backend.

    Returns:
        ``{"lease", "backend", "workers"}``, or a Cancelled state.

    Raises:
        DrillyardError: The backend failed: no capacity, no permission, a wrong order.
    """
    try:
        lease = body.join_for(Lease)
    except Stopped as error:
        return stopped(error)
    get_run_logger().info("lease %s on %s", lease.lease_id, lease.backend)
    if isinstance(driver.backend, HasConsole):
        _link(driver.backend.console(lease), driver.mailbox.experiment)
    return {
        "lease": lease.lease_id,
        "backend": lease.backend,
        "workers": lease.order.workers,
    }


def _link(page: str, experiment: str) -> None:
    """Creates a link to the provider's page of the machines."""
    from prefect.artifacts import create_link_artifact

    log, what = get_run_logger(), f"Machines of {experiment} at their provider"
    log.info("machines: %s", page)
    try:
        create_link_artifact(
            page, link_text=what, key=artifact_key("machines", experiment), description=what
        )
    except Exception as error:  # a missing link must not end the work
        log.debug("the link to the machines could not be created: %s", error)


@task(name="setup", task_run_name="setup", **INFRASTRUCTURE)
def setup(body: Body) -> list[str] | EndState:
    """Waits for workers.

    Args:
        body: The phase.

    Returns:
        Ids of the workers that are ready, or a Cancelled state.

    Raises:
        UserError: A worker failed: a package cannot be installed, or a GPU is missing.
        WorkerLost: No worker registered.
    """
    try:
        workers = body.join_for(ReadyWorkers).workers
    except Stopped as error:
        return stopped(error)
    get_run_logger().info("%d worker(s) ready", len(workers))
    return [w.worker for w in workers]


@task(name="teardown", task_run_name="teardown", **INFRASTRUCTURE)
def teardown(body: Body) -> None:
    """Waits until every lease is gone, confirmed by its provider.

    Args:
        body: The phase.

    Raises:
        TeardownUnconfirmed: The provider still lists a lease.
    """
    body.join()
    get_run_logger().info("all leases were torn down")
