"""The tasks ``provision``, ``setup`` and ``teardown``, which rent, prepare and end machines."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.backend import HasConsole, Lease
from drillyard.documents.json_types import JsonObject
from drillyard.driver.bodies import ReadyWorkers
from drillyard.errors import Stopped
from drillyard_tasks.common import INFRASTRUCTURE, EndState, stopped
from drillyard_tasks.publisher import artifact_key
from drillyard_tasks.session import Session


@task(name="provision", task_run_name="provision", **INFRASTRUCTURE)
def provision(session: Session) -> JsonObject | EndState:
    """Rents the machines, or adopts those that an earlier driver rented.

    Args:
        session: The experiment.

    Returns:
        ``{"lease", "backend", "workers"}``, or a Cancelled state. The lease is None if every run
        is finished, so that no machine is needed.

    Raises:
        DrillyardError: The backend failed: no capacity, no permission, a wrong order.
    """
    if session.finished:
        return {"lease": None, "backend": None, "workers": 0}
    try:
        lease = session.body("provision").join_for(Lease)
    except Stopped as error:
        return stopped(error)
    get_run_logger().info("lease %s on %s", lease.lease_id, lease.backend)
    backend = session.driver.backend
    if isinstance(backend, HasConsole):
        _link(backend.console(lease), session.name)
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
def setup(session: Session) -> list[str] | EndState:
    """Waits until the workers have everything that the experiment needs.

    Args:
        session: The experiment.

    Returns:
        Ids of the workers that are ready, or a Cancelled state.

    Raises:
        UserError: A worker failed: a package cannot be installed, or a GPU is missing.
        WorkerLost: No worker registered.
    """
    if session.finished:
        return []
    try:
        workers = session.body("setup").join_for(ReadyWorkers).workers
    except Stopped as error:
        return stopped(error)
    get_run_logger().info("%d worker(s) ready", len(workers))
    return [w.worker for w in workers]


@task(name="teardown", task_run_name="teardown", **INFRASTRUCTURE)
def teardown(session: Session) -> None:
    """Ends every lease, and waits until its provider no longer lists it.

    Args:
        session: The experiment, which can do no more after this.

    Raises:
        TeardownUnconfirmed: The provider still lists a lease.
    """
    if not session.finished:
        session.body("teardown").join()
    get_run_logger().info("all leases were torn down")
