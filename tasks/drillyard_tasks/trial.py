"""Show one trial of a study: wait until the driver has judged it."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from drillyard.driver.bodies import Body
from drillyard.errors import Stopped
from drillyard.mailbox.records import TrialOutcome
from drillyard.mailbox.status import Status
from drillyard_tasks.common import INFRASTRUCTURE


@task(name="trial", task_run_name="trial {body.key}", **INFRASTRUCTURE)
def trial(body: Body) -> dict[str, Any] | State[Any]:
    """Wait for a trial.

    Args:
        body: The trial.

    Returns:
        ``{"trial", "status", "values"}``, or a Cancelled state.

    Raises:
        RunFailed: It failed; the study goes on.
    """
    try:
        outcome = body.join_for(TrialOutcome)
    except Stopped as error:
        return Cancelled(message=error.message)
    found = {"trial": outcome.number, "status": outcome.status.value, "values": outcome.values}
    get_run_logger().info("%s %s: %s", body.key, body.title, found)
    if outcome.status is Status.PRUNED:
        return Completed(name="Pruned", message=outcome.message, data=found)
    return found
