"""What the tasks share: when Prefect may retry, how a phase is joined, what is kept.

The session does the work of every phase, once. A task joins the phase's body and shows it, so
Prefect repeats only what failed in Prefect itself. The mailbox counts attempts at the work.
"""

from __future__ import annotations

import hashlib
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext

from drillyard.driver.bodies import Body
from drillyard.mailbox.records import Accepted

Reference = dict[str, Any]
"""What train, evaluate and store hand on: where the result is, never the result."""


def only_of_prefect(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Prefect's retry condition: not how the phase itself ended, which no repetition changes."""
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
    # A kept result of an earlier flow run would skip renting and tearing down (measured).
    "persist_result": False,
    "cache_policy": NO_CACHE,
}


def ticket_key(context: Any, parameters: dict[str, Any]) -> str:
    """Cache key of a ticket: the place, the experiment's identity, the ticket."""
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
    """An accepted result as JSON."""
    return {
        "run": accepted.run,
        "phase": accepted.phase.value,
        "attempt": accepted.attempt,
        "status": accepted.status.value,
        "manifest": accepted.manifest,
        "manifest_sha256": accepted.manifest_sha256,
    }
