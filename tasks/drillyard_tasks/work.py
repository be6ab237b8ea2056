"""Train, evaluate and store: one kind of task, which waits for a run's ticket and shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from drillyard.driver.bodies import Body
from drillyard.driver.driver import Driver
from drillyard.errors import Stopped
from drillyard.mailbox.records import Accepted, Phase
from drillyard.mailbox.status import Status
from drillyard_tasks.common import WORK, Reference, reference
from drillyard_tasks.publisher import Publisher

Describe = Callable[[dict[str, Any]], str]
"""An accepted result's summary -> one line for the log."""


def work_task(phase: Phase, describe: Describe) -> Task[..., Reference | State[Any]]:
    """The task of one phase of a run."""

    @task(name=phase.value, task_run_name="{body.title}", **WORK)
    def work(
        body: Body,
        driver: Driver,
        publisher: Publisher,
        *,
        store: str,
        experiment: str,
        identity: str,
        ticket: str,
        generation: int,
    ) -> Reference | State[Any]:
        """Join a run's phase, and say how far it is.

        Args:
            body: The phase.
            driver: Knows how far it is.
            publisher: Puts that on Prefect's pages.
            store: URL of the mailbox's store; part of the cache key, as are the next four.
            experiment: The experiment's name.
            identity: sha256 over what changes results.
            ticket: The ticket, ``t0001-s42.train``.
            generation: How often the finished ticket was opened again.

        Returns:
            Reference of the accepted result; a Cancelled state after a stop on request, so that
            Prefect shows what happened.

        Raises:
            DrillyardError: Why there is no result.
        """
        log = get_run_logger()
        with publisher.publishing(driver, experiment, body.run, ticket, log):
            try:
                accepted = body.join_for(Accepted)
            except Stopped as error:
                return Cancelled(message=error.message)
        log.info(
            "%s: attempt %d accepted. %s", ticket, accepted.attempt, describe(accepted.summary)
        )
        found = reference(accepted)
        if accepted.status is Status.PRUNED:
            return Completed(name="Pruned", data=found)
        return found

    return work
