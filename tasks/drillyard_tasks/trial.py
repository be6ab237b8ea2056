"""Show one trial of a study: wait until the driver has judged it."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from drillyard.driver.active import current
from drillyard.errors import Bug, RunFailed, Stopped
from drillyard.mailbox.status import Status
from drillyard_tasks.common import INFRASTRUCTURE


@task(name="trial", task_run_name="trial {task_name}", **INFRASTRUCTURE)
def trial(
    store: str, experiment: str, trial: int, label: str, task_name: str
) -> dict[str, Any] | State[Any]:
    """Wait for a trial.

    Args:
        store: URL of the mailbox's store.
        experiment: The experiment's name.
        trial: Its number.
        label: What people call it.
        task_name: ``t0001``.

    Returns:
        ``{"trial", "status", "values"}``, or a Cancelled state.

    Raises:
        RunFailed: It failed; the study goes on.
    """
    search = current(store, experiment).study
    if search is None:
        raise Bug(f"{experiment!r} has no study")
    try:
        outcome = search.wait(trial)
    except Stopped as error:
        return Cancelled(message=error.message)
    found = {"trial": trial, "status": outcome.status.value, "values": outcome.values}
    get_run_logger().info("%s %s: %s", task_name, label, found)
    if outcome.status is Status.PRUNED:
        return Completed(name="Pruned", message=outcome.message, data=found)
    if outcome.status is not Status.SUCCEEDED:
        raise RunFailed(f"{task_name}: {outcome.message or outcome.status.value}")
    return found
