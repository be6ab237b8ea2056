"""The task ``teardown``: tears down every lease."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.driver.bodies import Body
from drillyard_tasks.common import INFRASTRUCTURE


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
