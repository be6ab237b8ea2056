"""Wait until the workers have installed the code and are ready."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.driver.bodies import Body, ReadyWorkers
from drillyard_tasks.common import INFRASTRUCTURE


@task(name="setup", task_run_name="setup", **INFRASTRUCTURE)
def setup(body: Body) -> list[str]:
    """Wait for workers.

    Args:
        body: The phase.

    Returns:
        Ids of the workers that are ready.

    Raises:
        UserError: What a worker said: a package that cannot be installed, a GPU that is not there.
        WorkerLost: None came.
    """
    workers = body.join_for(ReadyWorkers).workers
    get_run_logger().info("%d worker(s) ready", len(workers))
    return [w.worker for w in workers]
