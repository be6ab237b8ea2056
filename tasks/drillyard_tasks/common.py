"""What the six tasks share: when Prefect may retry, how a ticket is waited for, what is kept.

Attempts at the *work* are counted in the mailbox. Prefect repeats only calls of the control plane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from drillyard.driver.active import current
from drillyard.errors import ControlPlaneError, DrillyardError, Stopped, StoreUnavailable
from drillyard.mailbox.records import Accepted
from drillyard_tasks.publisher import PUBLISHER

Reference = dict[str, Any]
"""What train, evaluate and store hand on: where the result is, never the result."""


def only_control_plane(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Prefect's retry condition: the control plane failed and its error says "try again".

    A worker that died is not ours to repeat: the mailbox counts that.
    """
    error = state.data if isinstance(state.data, BaseException) else None
    return (
        isinstance(error, ControlPlaneError | StoreUnavailable)
        and isinstance(error, DrillyardError)
        and error.retryable
    )


RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 5,
    "retry_condition_fn": only_control_plane,
}

INFRASTRUCTURE: dict[str, Any] = {
    **RETRIES,
    # A retried flow must rent and tear down again; a kept result would skip that (measured).
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


def wait_for(
    store: str,
    experiment: str,
    run: str,
    ticket: str,
    timeout_s: float | None,
    describe: Callable[[dict[str, Any]], str],
) -> Reference | State[Any]:
    """Wait for a ticket, saying how far it is.

    Args:
        store: The mailbox's store.
        experiment: The experiment's name.
        run: The run.
        ticket: The ticket.
        timeout_s: Longest wait; None for no limit of ours.
        describe: The accepted result's summary in one line, for the log.

    Returns:
        The accepted result's reference; a Cancelled state after a stop on request, so that Prefect
        shows what happened and starts nothing that comes after.

    Raises:
        DrillyardError: Why there is no result.
    """
    driver = current(store, experiment)
    log = get_run_logger()
    with PUBLISHER.publishing(driver, experiment, run, ticket, log):
        try:
            accepted = driver.wait(ticket, timeout_s)
        except Stopped as error:
            return Cancelled(message=error.message)
    log.info("%s: attempt %d accepted. %s", ticket, accepted.attempt, describe(accepted.summary))
    return reference(accepted)
