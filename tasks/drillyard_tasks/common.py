"""What the tasks share: when Prefect retries, and what they return.

The session does the work of every phase once. A task waits for the phase's body and shows it. The
mailbox alone counts attempts at the work. If an attempt is lost and another one follows, the task
raises this loss, so that Prefect shows a retry for each further attempt. Nothing waits for that.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Cancelled

from drillyard.documents.json_types import JsonObject
from drillyard.driver.bodies import Body
from drillyard.errors import Stopped
from drillyard.mailbox.records import Accepted
from drillyard.mailbox.retries import RETRIES
from drillyard_tasks import session

EndState: TypeAlias = State[Any]
"""A Prefect state that ends a task or a flow run."""
FlowResult: TypeAlias = JsonObject | EndState
Reference: TypeAlias = JsonObject
"""What train, evaluate and store return: the location of the result, never the result."""
OF_PREFECT = 2
"""How often Prefect repeats a task after a failure of its own."""


def not_delivered(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: the task has not got the end of its phase.

    True after the loss of an attempt that another one follows, and after a failure of Prefect
    itself. A phase that failed is not repeated.
    """
    context = TaskRunContext.get()
    if context is None:
        return False
    if "session" in context.parameters:
        of, run = session.of(context.parameters)
        return not of.delivered(task.name, run)
    body = context.parameters.get("body")
    return isinstance(body, Body) and not body.delivered


def title(parameters: dict[str, Any], task: str) -> str:
    """Returns the name of a task run."""
    of, run = session.of(parameters)
    return of.title(task, run)


INFRASTRUCTURE: dict[str, Any] = {
    "retries": OF_PREFECT,
    "retry_delay_seconds": 5,
    "retry_condition_fn": not_delivered,
    # A persisted result would skip provision and teardown in a flow run that is retried.
    "persist_result": False,
    "cache_policy": NO_CACHE,
}


def ticket_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Returns the cache key of a ticket: its experiment, and how often it was opened again.

    The mailbox decides what is open. A finished ticket is opened again only by a new generation,
    or in a new experiment, which has another time of creation.
    """
    of, run = session.of(parameters)
    ticket = of.key(context.task.name, run)
    return f"drillyard-{of.identity}-{ticket}-{of.driver.generation(ticket)}"


WORK: dict[str, Any] = {
    # The mailbox allows fewer: each cause has its own number.
    "retries": OF_PREFECT + sum(RETRIES.values()),
    "retry_delay_seconds": 1,
    "retry_condition_fn": not_delivered,
    "persist_result": True,
    "result_serializer": "json",
    "cache_key_fn": ticket_key,
}


def stopped(error: Stopped) -> EndState:
    """Returns the state of a task whose phase was stopped on request, which is not a failure."""
    return Cancelled(message=error.message)


def reference(accepted: Accepted) -> Reference:
    """Returns the reference of an accepted result."""
    return {
        "run": accepted.run,
        "phase": accepted.phase.value,
        "attempt": accepted.attempt,
        "status": accepted.status.value,
        "manifest": accepted.manifest,
        "manifest_sha256": accepted.manifest_sha256,
    }
