"""Give back everything that was rented."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.driver.active import current
from drillyard_tasks.common import INFRASTRUCTURE


@task(name="teardown", task_run_name="teardown", **INFRASTRUCTURE)
def teardown(store: str, experiment: str) -> None:
    """Tear down the lease; the plain function ``Driver.teardown`` as Prefect sees it.

    Args:
        store: URL of the mailbox's store.
        experiment: The experiment's name.

    Raises:
        TeardownUnconfirmed: The provider still lists something of ours.
    """
    current(store, experiment).teardown()
    get_run_logger().info("nothing of ours is left")
