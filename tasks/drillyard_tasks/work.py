"""The tasks ``train``, ``evaluate`` and ``store``, which wait for a run's ticket and show it."""

from __future__ import annotations

from collections.abc import Callable

from prefect import Task, get_run_logger, task
from prefect.states import Completed

from drillyard.documents.json_types import JsonObject
from drillyard.driver.bodies import Body
from drillyard.driver.driver import Driver
from drillyard.errors import Stopped
from drillyard.mailbox.records import Accepted, Phase
from drillyard.mailbox.status import Status
from drillyard_tasks.common import WORK, EndState, Reference, reference, stopped
from drillyard_tasks.publisher import Publisher

Describe = Callable[[JsonObject], str]
"""Describes the summary of an accepted result in one line for the log."""


def work_task(phase: Phase, describe: Describe) -> Task[..., Reference | EndState]:
    """Returns the task of one phase of a run."""

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
    ) -> Reference | EndState:
        """Waits for a run's phase and shows its progress.

        Args:
            body: The phase.
            driver: Driver that knows the progress.
            publisher: Shows the progress on Prefect's pages.
            store: URL of the mailbox's store; part of the cache key, as are the next four.
            experiment: The experiment's name.
            identity: sha256 over what changes results.
            ticket: The ticket, ``t0001-s42.train``.
            generation: How often the finished ticket was reopened.

        Returns:
            Reference of the accepted result; a Cancelled state after a requested stop, so that
            Prefect shows it.

        Raises:
            DrillyardError: The phase failed.
        """
        log = get_run_logger()
        with publisher.publishing(driver, experiment, body.run, ticket, log):
            try:
                accepted = body.join_for(Accepted)
            except Stopped as error:
                return stopped(error)
        log.info(
            "%s: attempt %d accepted. %s", ticket, accepted.attempt, describe(accepted.summary)
        )
        result = reference(accepted)
        if accepted.status is Status.PRUNED:
            return Completed(name="Pruned", data=result)
        return result

    return work


train = work_task(
    Phase.TRAIN,
    lambda s: f"{s.get('steps') or 0:,} steps, {s.get('steps_per_s') or 0:,.0f} steps/s",
)
evaluate = work_task(Phase.EVALUATE, lambda s: f"policy used: {s.get('policy_used', '?')}")
store = work_task(Phase.STORE, lambda s: f"targets: {s.get('targets') or 'the mailbox'}")
