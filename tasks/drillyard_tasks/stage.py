"""The task ``stage``: shows one stage of a composite, whose own flow run has its phases."""

from __future__ import annotations

from prefect import get_run_logger, task

from drillyard.driver.bodies import Body
from drillyard.errors import Stopped
from drillyard_tasks.common import INFRASTRUCTURE, EndState, stopped


@task(name="stage", task_run_name="{body.title}", **INFRASTRUCTURE)
def stage(body: Body) -> EndState | None:
    """Waits for a stage.

    Args:
        body: The stage; of a service, first until it is ready, then until it has stopped.

    Returns:
        None, or a Cancelled state.

    Raises:
        RunFailed: The stage has no result.
    """
    try:
        body.join()
    except Stopped as error:
        return stopped(error)
    get_run_logger().info("%s: ended", body.title)
    return None
