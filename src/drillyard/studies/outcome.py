"""Judges a trial: from its ended tickets to its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drillyard.errors import RunFailed
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase, TrialOutcome, TrialRecord
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
    bad = next((t.ending for t in states if t.status is status and t.ending is not None), None)
    message = bad.message if bad is not None and status is not Status.SUCCEEDED else ""
    cause = bad.cause if bad is not None and status is not Status.SUCCEEDED else None
    given_up = mailbox.reopened().pruned if status is Status.PRUNED else {}
    by_seed: dict[int, dict[str, float]] = {}
    starts, ends, steps = [], [e.ended_at for t in states if (e := t.ending) is not None], 0
    for seed, run in runs.items():
        trained = mailbox.accepted(run, Phase.TRAIN)
        if trained is not None:
            starts.append(trained.started_at)
            ends.append(trained.ended_at)
            summary = TrainSummary.of(trained)
            steps += (summary.steps or 0) - (summary.inherited_steps or 0)
        if mailbox.accepted(run, Phase.EVALUATE) is None:
            continue
        try:
            by_seed[seed] = of_run(mailbox, run, objectives)
        except RunFailed as error:
            status, cause, message = Status.FAILED, Cause.USER_ERROR, error.message
    values, single = aggregate(by_seed, objectives)
    if status is Status.PRUNED:
        message = next((r for run in runs.values() if (r := given_up.get(run))), message)
        cause = Cause.PRUNED
        if reached is not None:
            values = {objectives[0].name: reached[1]}
    return TrialOutcome(
        number=record.number,
        status=status,
        values=values,
        by_seed=single,
        steps=steps,
        started_at=min(starts, default=None),
        ended_at=max(ends, default=clock.now()),
        message=message,
        cause=cause,
        pruned_at=reached[0] if reached is not None and status is Status.PRUNED else None,
    )
