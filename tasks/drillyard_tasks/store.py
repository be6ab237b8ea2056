"""Write one run's results where people look for them."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.client.schemas.objects import State

from drillyard_tasks.common import WORK, Reference, wait_for


def _describe(summary: dict[str, Any]) -> str:
    return f"targets: {summary.get('targets') or 'the mailbox'}"


@task(name="store", task_run_name="store {run}", **WORK)
def store(
    store: str,
    experiment: str,
    identity: str,
    generation: int,
    run: str,
    ticket: str,
    timeout_s: float | None = None,
) -> Reference | State[Any]:
    """Store a run's results.

    Args:
        store: URL of the mailbox's store.
        experiment: The experiment's name.
        identity: sha256 over what changes results; part of the cache key.
        generation: How often the finished ticket was opened again; also part of the key.
        run: The run, ``t0001-s42``.
        ticket: Its ticket, ``t0001-s42.store``.
        timeout_s: Longest wait.

    Returns:
        Reference of the accepted result, or a Cancelled state.

    Raises:
        RunFailed: The attempts are used up, or the user's code raised.
        TimedOut: The time is up.
    """
    return wait_for(store, experiment, run, ticket, timeout_s, _describe)
