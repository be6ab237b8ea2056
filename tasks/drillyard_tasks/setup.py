"""Wait until the workers have installed the code and are ready."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.driver.active import current
from drillyard_tasks.common import INFRASTRUCTURE


@task(name="setup", task_run_name="setup", **INFRASTRUCTURE)
def setup(store: str, experiment: str, timeout_s: float) -> list[str]:
    """Wait for workers.

    Args:
        store: URL of the mailbox's store.
        experiment: The experiment's name.
        timeout_s: Longest wait for a first worker.

    Returns:
        Ids of the workers that are ready.

    Raises:
        UserError: What a worker said: a package that cannot be installed, a GPU that is not there.
        WorkerLost: None came.
    """
    workers = current(store, experiment).setup(timeout_s)
    get_run_logger().info("%d worker(s) ready", len(workers))
    return [w.worker for w in workers]
