"""The tasks ``trial`` and ``stage``, which wait for a part of a study or of a composite."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.states import Completed

from drillyard.documents.json_types import JsonObject
from drillyard.driver.bodies import Body
from drillyard.errors import Stopped
from drillyard.mailbox.records import TrialOutcome
from drillyard.mailbox.status import Status
from drillyard_tasks.common import INFRASTRUCTURE, EndState, stopped


@task(name="trial", task_run_name="trial {body.key}", **INFRASTRUCTURE)
def trial(body: Body) -> JsonObject | EndState:
    """Waits for a trial.

    Args:
        body: The trial.

    Returns:
        ``{"trial", "status", "values"}``, or a Cancelled state.

    Raises:
        RunFailed: The trial failed; the study continues.
    """
    try:
        outcome = body.join_for(TrialOutcome)
    except Stopped as error:
        return stopped(error)
    result: JsonObject = {
        "trial": outcome.number,
        "status": outcome.status.value,
        "values": {**outcome.values},
    }
    get_run_logger().info("%s %s: %s", body.key, body.title, result)
    if outcome.status is Status.PRUNED:
        return Completed(name="Pruned", message=outcome.message, data=result)
    return result


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
