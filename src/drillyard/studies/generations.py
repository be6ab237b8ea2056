"""What a chooser knew when it made an earlier choice, by the times in the records."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.study import GENERATION


def ended_before(outcome: TrialOutcome, record: TrialRecord) -> bool:
    """Whether the choice of a trial may have used the outcome of another one."""
    return outcome.ended_at is not None and outcome.ended_at <= record.chosen_at


def generations(
    own: Mapping[int, TrialRecord], outcomes: Mapping[int, TrialOutcome]
) -> dict[int, int]:
    """The generation of each trial that NSGA-II chose, from 0; random ones are in none.

    A trial belongs to the newest generation of those that had ended before it was chosen, until
    that one is complete (``BaseGASampler.get_trial_generation`` of Optuna 4).
    """
    generation_of: dict[int, int] = {}
    chosen = {number: record for number, record in own.items() if record.chooser == "nsga2"}
    for number, record in sorted(chosen.items()):
        ended = [
            generation
            for earlier, generation in generation_of.items()
            if (outcome := outcomes.get(earlier)) is not None
            and outcome.status is Status.SUCCEEDED
            and ended_before(outcome, record)
        ]
        newest = max(ended, default=0)
        generation_of[number] = newest + (ended.count(newest) >= GENERATION)
    return generation_of
