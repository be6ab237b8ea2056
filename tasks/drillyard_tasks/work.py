"""The tasks ``train``, ``evaluate`` and ``store``, which do one phase of a run each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.states import Completed

from drillyard.documents.json_types import JsonObject
from drillyard.errors import Stopped, WorkerLost
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import Accepted, Phase
from drillyard.mailbox.status import Status
from drillyard_tasks.common import WORK, EndState, Reference, reference, stopped, title
from drillyard_tasks.session import Session

Describe = Callable[[JsonObject], str]
"""Describes the summary of an accepted result in one line for the log."""


def work_task(phase: Phase, describe: Describe) -> Task[..., Reference | EndState]:
    """Returns the task of one phase of a run."""

    def name(parameters: dict[str, Any]) -> str:
        return title(parameters, phase.value)

    @task(name=phase.value, task_run_name=name, **WORK)  # type: ignore[arg-type]
    def work(session: Session, run: str) -> Reference | EndState:
        """Does a phase of a run, or returns the result that it has, and shows its progress.

        Args:
            session: The experiment.
            run: The run, ``t0001-s42``.

        Returns:
            Reference of the accepted result: ``{"run", "phase", "attempt", "status", "manifest",
            "manifest_sha256"}``; Prefect's cache has it if the task was done before. After a
            requested stop, a Cancelled state.

        Raises:
            WorkerLost: The attempt was lost, and another one follows: Prefect's retry shows it.
            DrillyardError: The phase failed.
        """
        log, ticket = get_run_logger(), ticket_id(run, phase)
        try:
            body = session.body(phase.value, run)
            with session.publisher.publishing(session.driver, session.name, run, ticket, log):
                accepted = body.join_for(Accepted)
        except Stopped as error:
            return stopped(error)
        except WorkerLost as loss:
            session.publisher.lost(session.name, loss)
            raise
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
