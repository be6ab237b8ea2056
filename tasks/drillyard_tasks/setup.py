"""The task ``setup``: waits until the workers have installed the code and are ready."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.driver.bodies import Body, ReadyWorkers
from drillyard_tasks.common import INFRASTRUCTURE


@task(name="setup", task_run_name="setup", **INFRASTRUCTURE)
def setup(body: Body) -> list[str]:
    """Waits for workers.

    Args:
        body: The phase.

    Returns:
        Ids of the workers that are ready.

    Raises:
        UserError: A worker failed: a package cannot be installed, or a GPU is missing.
        WorkerLost: No worker registered.
    """
    workers = body.join_for(ReadyWorkers).workers
    get_run_logger().info("%d worker(s) ready", len(workers))
    return [w.worker for w in workers]
