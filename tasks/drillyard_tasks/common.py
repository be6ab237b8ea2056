"""What the tasks share: when Prefect may retry, and how results are cached.

The session does the work of every phase once. A task waits for the phase's body and shows it, so
Prefect retries only failures of Prefect itself. The mailbox counts attempts at the work.
"""

from __future__ import annotations

import hashlib
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

EndState: TypeAlias = State[Any]
"""A Prefect state that ends a task or a flow run."""
FlowResult: TypeAlias = JsonObject | EndState
Reference: TypeAlias = JsonObject
"""What train, evaluate and store return: the location of the result, never the result."""


def only_of_prefect(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: a failure of the phase itself is not retried."""
    context = TaskRunContext.get()
    body = context.parameters.get("body") if context is not None else None
    return isinstance(body, Body) and not body.done


RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 5,
    "retry_condition_fn": only_of_prefect,
}

INFRASTRUCTURE: dict[str, Any] = {
    **RETRIES,
    # A cached result of an earlier flow run would skip provision and teardown (measured).
    "persist_result": False,
    "cache_policy": NO_CACHE,
}


def stopped(error: Stopped) -> EndState:
    """Returns the state of a task whose phase was stopped on request, which is not a failure."""
    return Cancelled(message=error.message)


def ticket_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Returns the cache key of a ticket: the store, the experiment's identity, the ticket."""
    place = hashlib.sha256(
        f"{parameters['store']}\n{parameters['experiment']}\n{parameters['identity']}".encode()
    ).hexdigest()[:24]
    return f"drillyard-{place}-{parameters['ticket']}-{parameters['generation']}"


WORK: dict[str, Any] = {
    **RETRIES,
    "persist_result": True,
    "result_serializer": "json",
    "cache_key_fn": ticket_key,
}


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
