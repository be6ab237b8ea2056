"""The task ``setup``: waits until the workers have installed the code and are ready."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.driver.bodies import Body, ReadyWorkers
from drillyard.errors import Stopped
from drillyard_tasks.common import INFRASTRUCTURE, EndState, stopped


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
