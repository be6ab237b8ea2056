"""The end of a search: more seeds until the two best trials differ, and the second run.

The best of many trials may have been lucky. So the winner is run again on seeds and episodes that
no choice used, and that score is the one to report. The winner of a population is a policy whose
values changed while it was trained: it plays fresh episodes, and is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drillyard.mailbox.mailbox import trial_id
from drillyard.mailbox.records import Lineage, TrialRecord
from drillyard.spec.study import ObjectiveSpec, StudySpec
from drillyard.studies.choosers import Choice
from drillyard.studies.comparing import verdict
from drillyard.studies.state import ranked
from drillyard.studies.trial_log import TrialLog


class Confirmation:
    """Adds seeds and the second run to a search that has ended.

    Args:
        study: The section of the file.
        objectives: The objectives.
        book: The trials.
        say: Receives a sentence about each event.
    """

    def __init__(
        self,
        study: StudySpec,
        objectives: Sequence[ObjectiveSpec],
        book: TrialLog,
        say: Callable[[str], None],
    ) -> None:
        self._study = study
        self._objectives = objectives
        self._book = book
        self._say = say
        self.seeds_rule: str | None = None
        """The result of ``seeds: auto`` for people."""

    def more_seeds(self) -> bool:
        """Add a seed to the two best trials while they do not differ; True if it did."""
        rule, book = self._study.auto, self._book
        ranking = ranked(book.records, book.outcomes, self._objectives)[:2]
        if rule is None or len(ranking) < 2:
            return False
        first = self._objectives[0].name
        values = [list(o.by_seed[first].values()) for o in ranking]
        if min(len(v) for v in values) < 2:
            return False
        done, self.seeds_rule = verdict(values[0], values[1], rule)
        if done:
            self._say(
                f"{trial_id(ranking[0].number)} against {trial_id(ranking[1].number)}: "
                f"{self.seeds_rule}"
            )
            return False
        (seed,) = _fresh(book.used_seeds(), 1)
        for outcome in ranking:
            if len(outcome.by_seed[first]) < rule.most:
                book.add_seed(outcome.number, seed, self.seeds_rule)
        return True

    def confirm(self, default: int) -> bool:
        """Run the winner again on fresh seeds; True if this was begun.

        Args:
            default: Number of seeds if the file does not set it.
        """
        many, book = self._study.confirmations(default), self._book
        ranking = ranked(book.records, book.outcomes, self._objectives)
        if not many or not ranking or any(r.of == ranking[0].number for r in book.records):
            return False
        best = book.record(ranking[0].number)
        seeds = _fresh(book.used_seeds(), many) if best.lineage is None else best.seeds
        choice = Choice(
            best.assignment, "confirm", best.parts, best.label, tuple(seeds), lineage=_after(best)
        )
        confirming = book.freeze(choice, of=best.number)
        how = f"seeds {', '.join(map(str, seeds))}" if best.lineage is None else "episodes"
        self._say(
            f"{trial_id(confirming.number)}: {trial_id(best.number)} is best so far, and is run "
            f"again on fresh {how}"
        )
        return True


def _after(best: TrialRecord) -> Lineage | None:
    """The lineage of a population's winner: it continues from its end, with no steps to train."""
    lineage = best.lineage
    if lineage is None:
        return None
    return lineage.model_copy(update={"parent": best.number, "generation": lineage.generation + 1})


def _fresh(used: set[int], many: int) -> Sequence[int]:
    """Seeds that were not used, beginning after the largest."""
    seeds: list[int] = []
    candidate = max(used, default=0) + 1
    while len(seeds) < many:
        candidate = candidate if candidate < 2**32 else 0
        if candidate not in used:
            seeds.append(candidate)
        candidate += 1
    return seeds
