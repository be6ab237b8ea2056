"""The messages of a study: one line for each trial, and why the study failed."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.errors import DrillyardError, RunFailed, TimedOut
from drillyard.mailbox.mailbox import trial_id
from drillyard.mailbox.records import StudyState, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.study import StudySpec

MOST_LINES = 10


def line(
    record: TrialRecord, outcome: TrialOutcome, state: StudyState, total: int | None, first: str
) -> str:
    """Describes a trial that has ended: its values, or why it has none, and the best trial.

    Args:
        record: The trial.
        outcome: How it ended.
        state: State of the study, including this trial.
        total: Number of trials, None if it is not known.
        first: Name of the first objective.
    """
    name = trial_id(record.number) + (f" {record.label}" if record.label else "")
    ended = state.succeeded + state.failed + state.pruned
    text = f"{name} ({ended}{f' of {total}' if total else ''}): "
    if not record.search:
        text = f"{name} (confirms {trial_id(record.of or 0)}): "
    if outcome.status is Status.SUCCEEDED:
        text += ", ".join(f"{k} {v:.6g}" for k, v in outcome.values.items())
    else:
        text += outcome.status.value.lower().replace("_", " ")
        text += f", {outcome.message}" if outcome.message else ""
    if state.best is not None and state.best != record.number:
        text += f"; best {state.best_values[first]:.6g} ({trial_id(state.best)})"
    return text


def too_often(
    state: StudyState, outcomes: Mapping[int, TrialOutcome], study: StudySpec
) -> DrillyardError:
    """The error that too many trials, or all of them, have failed.

    Returns:
        ``TimedOut`` if a limit ended each of them: then nothing is wrong with the trials, and the
        same command continues them. Otherwise ``RunFailed``.
    """
    bad = [o for n, o in sorted(outcomes.items()) if o.status in (Status.FAILED, Status.TIMED_OUT)]
    lines = "\n".join(f"  {trial_id(o.number)}: {o.message}" for o in bad[:MOST_LINES])
    if all(o.status is Status.TIMED_OUT for o in bad):
        return TimedOut(
            f"a limit ended {len(bad)} of {state.chosen} trials\n{lines}",
            hint="raise it and run the same command again: it continues these trials from their "
            "last checkpoints",
        )
    return RunFailed(
        f"{state.failed} of {state.chosen} trials have failed\n{lines}",
        hint=f"fix their causes, or allow more with study.max_failures (now "
        f"{study.failures_allowed})",
    )
