"""Judges a trial: from its ended tickets to its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drillyard.errors import RunFailed
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted, Phase, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.summaries import TrainSummary
from drillyard.mailbox.ticket_states import TicketState
from drillyard.spec.study import ObjectiveSpec
from drillyard.studies.objectives import aggregate, of_run
from drillyard.system.clock import Clock

_WORST_FIRST = (Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.PRUNED)


def judged(
    mailbox: Mailbox,
    record: TrialRecord,
    runs: Mapping[int, str],
    states: Sequence[TicketState],
    objectives: Sequence[ObjectiveSpec],
    clock: Clock,
    reached: tuple[int, float] | None = None,
) -> TrialOutcome:
    """How a trial ended.

    Args:
        mailbox: The experiment.
        record: The trial.
        runs: Seed -> run.
        states: States of all its tickets; tickets that have not yet ended count as done.
        objectives: The objectives.
        clock: The time of an end that was not recorded.
        reached: The last step that was compared with others, and its value.
    """
    status = next(
        (s for s in _WORST_FIRST if any(t.status is s for t in states)), Status.SUCCEEDED
    )
    message, cause = "", None
    if status is not Status.SUCCEEDED:
        bad = next((t.ending for t in states if t.status is status and t.ending is not None), None)
        message, cause = (bad.message, bad.cause) if bad is not None else ("", None)
    trained = [m for run in runs.values() if (m := mailbox.accepted(run, Phase.TRAIN)) is not None]
    ends = [ending.ended_at for t in states if (ending := t.ending) is not None]
    ends += [m.ended_at for m in trained]
    by_seed, lacking = _measured(mailbox, runs, objectives)
    if lacking is not None:
        status, cause, message = Status.FAILED, Cause.USER_ERROR, lacking
    values, single = aggregate(by_seed, objectives)
    pruned_at = None
    if status is Status.PRUNED:
        reasons = mailbox.reopened().pruned
        message = next((r for run in runs.values() if (r := reasons.get(run))), message)
        cause = Cause.PRUNED
        if reached is not None:
            pruned_at, values = reached[0], {objectives[0].name: reached[1]}
    return TrialOutcome(
        number=record.number,
        status=status,
        values=values,
        by_seed=single,
        steps=sum(map(_new_steps, trained)),
        started_at=min((m.started_at for m in trained), default=None),
        ended_at=max(ends, default=clock.now()),
        message=message,
        cause=cause,
        pruned_at=pruned_at,
    )


def _measured(
    mailbox: Mailbox, runs: Mapping[int, str], objectives: Sequence[ObjectiveSpec]
) -> tuple[dict[int, dict[str, float]], str | None]:
    """(seed -> its values, why the last run without them has none)."""
    by_seed: dict[int, dict[str, float]] = {}
    lacking = None
    for seed, run in runs.items():
        if mailbox.accepted(run, Phase.EVALUATE) is not None:
            try:
                by_seed[seed] = of_run(mailbox, run, objectives)
            except RunFailed as error:
                lacking = error.message
    return by_seed, lacking


def _new_steps(trained: Accepted) -> int:
    summary = TrainSummary.of(trained)
    return (summary.steps or 0) - (summary.inherited_steps or 0)
