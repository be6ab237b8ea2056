"""What comes after the last trial was chosen: seeds until the best are told apart, the second run.

Who looks at many trials finds one that was lucky. So the winner is run again on seeds and episodes
that nothing was chosen by, and that score is the one to report. The winner of a population is a
policy whose values changed while it was trained: it plays fresh episodes, and is not trained anew.
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
    """Adds to a search that has come to its end.

    Args:
        study: The section of the file.
        objectives: What is best.
        book: The trials.
        say: Told in a sentence what happens.
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
        """What ``seeds: auto`` came to, in words."""

    def more_seeds(self) -> bool:
        """Add a seed to the two best trials while they are not told apart; True when it did."""
        rule, book = self._study.auto, self._book
        found = ranked(book.records, book.outcomes, self._objectives)[:2]
        if rule is None or len(found) < 2:
            return False
        first = self._objectives[0].name
        values = [list(o.by_seed[first].values()) for o in found]
        if min(len(v) for v in values) < 2:
            return False
        done, self.seeds_rule = verdict(values[0], values[1], rule)
        if done:
            self._say(
                f"{trial_id(found[0].number)} against {trial_id(found[1].number)}: "
                f"{self.seeds_rule}"
            )
            return False
        (seed,) = _fresh(book.used_seeds(), 1)
        for outcome in found:
            if len(outcome.by_seed[first]) < rule.most:
                book.add_seed(outcome.number, seed, self.seeds_rule)
        return True

    def confirm(self, default: int) -> bool:
        """Run the winner again on fresh seeds; True when that was begun.

        Args:
            default: On how many, where the file does not say it.
        """
        many, book = self._study.confirmations(default), self._book
        found = ranked(book.records, book.outcomes, self._objectives)
        if not many or not found or any(r.of == found[0].number for r in book.records):
            return False
        best = book.record(found[0].number)
        seeds = _fresh(book.used_seeds(), many) if best.lineage is None else best.seeds
        choice = Choice(
            best.assignment, "confirm", best.parts, best.label, tuple(seeds), lineage=_after(best)
        )
        made = book.freeze(choice, of=best.number)
        how = f"seeds {', '.join(map(str, seeds))}" if best.lineage is None else "episodes"
        self._say(
            f"{trial_id(made.number)}: {trial_id(best.number)} is best so far, and is run "
            f"again on fresh {how}"
        )
        return True


def _after(best: TrialRecord) -> Lineage | None:
    """Of the winner of a population: it goes on from its end, where nothing is left to train."""
    own = best.lineage
    if own is None:
        return None
    return own.model_copy(update={"parent": best.number, "generation": own.generation + 1})


def _fresh(used: set[int], many: int) -> Sequence[int]:
    """Seeds that were not used, from the one after the largest."""
    found: list[int] = []
    candidate = max(used, default=0) + 1
    while len(found) < many:
        candidate = candidate if candidate < 2**32 else 0
        if candidate not in used:
            found.append(candidate)
        candidate += 1
    return found
