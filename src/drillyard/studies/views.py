"""A study for readers: trials with status and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from drillyard.documents.json_types import JsonObject
from drillyard.errors import NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import TrialCache, run_id
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState, by_run, ticket_states, worst
from drillyard.spec import ExperimentSpec
from drillyard.spec.study import ObjectiveSpec
from drillyard.studies.objectives import objectives_of

_WORKING = (Status.RUNNING, Status.PREEMPTED, Status.READY, Status.PENDING)


@dataclass(frozen=True)
class TrialView:
    """A trial, finished or not.

    Attributes:
        record: What was chosen.
        status: Its status.
        outcome: How it ended; None before that.
        seeds: Its seeds, including those that were added later.
    """

    record: TrialRecord
    status: Status
    outcome: TrialOutcome | None
    seeds: list[int]

    @property
    def number(self) -> int:
        """Its number."""
        return self.record.number

    @property
    def assignment(self) -> JsonObject:
        """The values of its tunables."""
        return self.record.assignment

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.record.label

    @property
    def runs(self) -> list[str]:
        """Its runs, one for each seed."""
        return [run_id(self.number, seed) for seed in self.seeds]

    @property
    def values(self) -> dict[str, float]:
        """Objective -> value over the seeds."""
        return self.outcome.values if self.outcome is not None else {}

    @property
    def by_seed(self) -> dict[str, dict[str, float]]:
        """Objective -> seed -> value."""
        return self.outcome.by_seed if self.outcome is not None else {}


def trials(
    mailbox: Mailbox,
    cache: TrialCache | None = None,
    states: Mapping[str, TicketState] | None = None,
) -> list[TrialView]:
    """Every trial of a study, by number; [] for a plain experiment.

    Tickets are read only for trials that have not ended: a finished study of ten thousand trials
    needs one listing.

    Args:
        mailbox: The experiment.
        cache: See ``Mailbox.trials``.
        states: The tickets, where the caller has read them.
    """
    records, outcomes, more = mailbox.trials(cache)
    views = []
    runs = None
    for record in records:
        added = more[record.number].seeds if record.number in more else []
        seeds = [*record.seeds, *added]
        outcome = outcomes.get(record.number)
        if outcome is not None and whole(outcome, seeds):
            views.append(TrialView(record, outcome.status, outcome, seeds))
            continue
        if runs is None:
            tickets = by_run(ticket_states(mailbox) if states is None else states)
            runs = {run: worst(statuses) for run, statuses in tickets.items()}
        statuses = [runs.get(run_id(record.number, seed), Status.PENDING) for seed in seeds]
        status = next(
            (s for s in _WORKING if s in statuses), statuses[0] if statuses else Status.PENDING
        )
        views.append(TrialView(record, status, outcome, seeds))
    return views


def whole(outcome: TrialOutcome, seeds: Sequence[int]) -> bool:
    """True unless seeds were added after it was judged."""
    known = next(iter(outcome.by_seed.values()), None)
    return known is None or outcome.status is not Status.SUCCEEDED or len(known) >= len(seeds)


def objectives(mailbox: Mailbox) -> list[ObjectiveSpec]:
    """The objectives; [] for a plain experiment, and for one that this version cannot read."""
    try:
        spec = ExperimentSpec.model_validate(mailbox.experiment_record().spec)
    except (NotFound, ValidationError):
        return []
    return [] if spec.study is None else objectives_of(spec)
