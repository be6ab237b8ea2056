"""MLflow's status of a run, and ours beside it."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import StudyState
from drillyard.mailbox.status import TABLE, Status
from drillyard.mailbox.ticket_states import TicketState, run_status
from drillyard.studies.state import failed_too_often
from drillyard.system.redaction import redact

SILENCE_S = 45.0
"""An experiment is idle if its driver, workers and boards were silent for so long."""


def alive(mailbox: Mailbox) -> bool:
    """Returns whether a driver, a worker or a run was active lately, by the store's clock.

    Args:
        mailbox: The experiment.
    """
    store, now = mailbox.store, mailbox.store.now()
    return any(
        now - info.updated_at < SILENCE_S
        for folder in ("driver/", "workers/", "board/")
        for info in store.list(mailbox.key(folder))
    )


def word(states: Mapping[str, TicketState], run: str, alive: bool) -> str:
    """MLflow's word for a run.

    Args:
        states: From ``ticket_states``.
        run: The run.
        alive: False if no driver or worker is active: a run that has begun is then not
            RUNNING.
    """
    status = run_status(states, run)
    if status.ended:
        return TABLE[status].mlflow
    begun = any(s.attempt is not None for s in states.values() if s.ticket.run == run)
    if not begun:
        return "SCHEDULED"
    return "RUNNING" if alive else "KILLED"


def parent_word(words: list[str]) -> str:
    """MLflow's word for an experiment, from those for its runs."""
    for word in ("RUNNING", "FAILED", "KILLED"):
        if word in words:
            return word
    if "SCHEDULED" in words:
        return "RUNNING" if "FINISHED" in words else "SCHEDULED"
    return "FINISHED" if words else "SCHEDULED"


def study_word(words: list[str], state: StudyState | None, alive: bool) -> str:
    """MLflow's word for a study, which single failed trials do not spoil.

    Args:
        words: For its runs.
        state: How far it is.
        alive: A driver or a worker is active.
    """
    if state is None or state.phase != "over":
        begun = any(w != "SCHEDULED" for w in words)
        return "SCHEDULED" if not begun else "RUNNING" if alive else "KILLED"
    if "RUNNING" in words:
        return "RUNNING"
    return "FAILED" if failed_too_often(state) else "FINISHED"


def ending_tags(states: Mapping[str, TicketState], run: str) -> dict[str, str]:
    """The status as drillyard names it, and the reason."""
    tags: dict[str, str] = {"drillyard.status": run_status(states, run).value}
    for state in states.values():
        ending = state.ending
        if state.ticket.run != run or ending is None or not ending.message:
            continue
        if state.status.ended and state.status is not Status.SUCCEEDED:
            tags.setdefault("drillyard.message", redact(ending.message))
            tags.setdefault("drillyard.cause", ending.cause.value if ending.cause else "")
    return tags
