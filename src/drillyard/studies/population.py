"""Population-based training: members train in parallel, bad ones continue from good ones.

M. Jaderberg et al. (2017), Population Based Training of Neural Networks, arXiv:1711.09846, with
truncation selection. A generation is compared when all of its members have ended, so that choices
depend only on the seed and on results, never on speed, also after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from drillyard.documents.json_types import Json
from drillyard.mailbox.mailbox import trial_id
from drillyard.mailbox.records import Lineage, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.constraints import Constraint
from drillyard.spec.study import ObjectiveSpec, PopulationSpec
from drillyard.spec.tunables import Space, Tunable
from drillyard.studies.choosers import DRAWS, Assignment, Chance, Choice, allowed


class Population(Chance):
    """Chooses the members of each generation.

    Args:
        settings: Number of members and generations, and how members change.
        space: The tunables.
        constraints: Conditions that an assignment must fulfil.
        objective: The objective.
        steps: Steps of a member over all generations; None if the work has no steps.
        seed: The same seed and past choose the same.
        defaults_first: The first member begins with the defaults.
    """

    adaptive = True

    def __init__(
        self,
        settings: PopulationSpec,
        space: Space,
        constraints: Sequence[Constraint],
        objective: ObjectiveSpec,
        *,
        steps: int | None,
        seed: int,
        defaults_first: bool,
    ) -> None:
        super().__init__(space, constraints, seed, defaults_first=defaults_first)
        self.total = settings.trials
        self._settings = settings
        self._objective = objective
        self._steps = steps
        self._members: dict[tuple[int, int], TrialRecord] = {}
        """(generation, member) -> trial."""
        self._scores: dict[int, float | None] = {}
        """Trial that has ended -> its score, more is better; None without a score."""

    # -- the contract of a chooser ------------------------------------------------------------

    def reconcile(
        self, records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> None:
        """See ``Chooser``."""
        for record in records:
            self.kept(record)
            if record.number in outcomes:
                self.tell(record, outcomes[record.number])

    def ready(self, index: int) -> bool:
        """See ``Chooser``: a generation begins when the one before it has ended."""
        return all(r.number in self._scores for r in self._before(self._place(index)[0]))

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """See ``Chooser``."""
        generation, member = self._place(index)
        lineage = Lineage(member=member, generation=generation, ends_at=self.ends_at(generation))
        if generation == 1:
            # With more members than assignments, some begin equal, and differ later.
            choice = super().ask(index, taken) or super().ask(index, ())
            return choice and replace(choice, label=_label(lineage), lineage=lineage)
        chosen = self._parent(generation, member)
        if chosen is None:
            return None  # all members have failed
        parent, exploited = chosen
        lineage = lineage.model_copy(update={"parent": parent.number})
        assignment = parent.assignment
        if exploited:
            assignment = self._explored(parent.assignment, Random(f"{self._seed}/{index}/explore"))
        return Choice(assignment, "pbt", label=_label(lineage), lineage=lineage)

    def kept(self, record: TrialRecord) -> None:
        """See ``Chooser``."""
        if record.lineage is not None and record.search:
            self._members[record.lineage.generation, record.lineage.member] = record

    def tell(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """See ``Chooser``."""
        value = outcome.values.get(self._objective.name)
        if outcome.status is not Status.SUCCEEDED or value is None:
            self._scores[record.number] = None
        else:
            self._scores[record.number] = self._objective.sign * value

    def stranger(self, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """The first trial that does not fit these settings at its position."""
        for index, record in enumerate(records, start=1):
            generation, member = self._place(index)
            ends_at = self.ends_at(generation)
            actual = record.lineage
            if actual is None or (actual.generation, actual.member, actual.ends_at) != (
                generation,
                member,
                ends_at,
            ):
                return record
        return None

    # -- inside -------------------------------------------------------------------------------

    def ends_at(self, generation: int) -> int | None:
        """Environment step at which a generation ends."""
        if self._steps is None:
            return None
        return math.ceil(self._steps * generation / self._settings.generations)

    def _place(self, index: int) -> tuple[int, int]:
        """(generation, member), both from 1, of the trial at an index."""
        generation, member = divmod(index - 1, self._settings.members)
        return generation + 1, member + 1

    def _before(self, generation: int) -> list[TrialRecord]:
        """The members of the generation before one."""
        return [r for (g, _), r in sorted(self._members.items()) if g == generation - 1]

    def _parent(self, generation: int, member: int) -> tuple[TrialRecord, bool] | None:
        """(the trial that a member continues, whether it belongs to another member)."""
        before = self._before(generation)
        scores = {r.number: self._scores.get(r.number) for r in before}
        known = {n: s for n, s in scores.items() if s is not None}
        if not known:
            return None
        order = sorted(before, key=lambda r: (-known.get(r.number, -math.inf), r.number))
        ranks = {r.number: rank for rank, r in enumerate(order)}
        size = self._settings.members
        share = max(1, int(self._settings.quantile * size))
        last = self._members.get((generation - 1, member))
        if last is not None and last.number in known and ranks[last.number] < size - share:
            return last, False
        best = [r for r in order[:share] if r.number in known]
        chosen = Random(f"{self._seed}/{generation}/{member}/exploit").choice(best)
        return chosen, True

    def _explored(self, assignment: Assignment, random: Random) -> Assignment:
        """An assignment near another one, or the same if no allowed one is found."""
        for _ in range(DRAWS):
            fresh = self._space.draw(random)
            assigned: Assignment = {
                name: fresh[name]
                if random.random() < self._settings.resample
                else moved(name, tunable, assignment[name], random, self._settings.factors)
                for name, tunable in self._space.tunables.items()
            }
            if allowed(assigned, self._constraints):
                return assigned
        return assignment


def moved(
    name: str, tunable: Tunable, value: Json, random: Random, factors: Sequence[float]
) -> Json:
    """A value near another one.

    A number is multiplied by one of the factors and limited to its range; if the range has both
    signs, it moves by that share of the range's width instead, because a product would remain 0.
    A whole number moves by at least 1. A category, or a bin, becomes a neighbour. A special value
    does not change.

    Args:
        name: Name of the tunable.
        tunable: The tunable.
        value: Its value so far.
        random: Draws the factor, or the neighbour.
        factors: The factors to multiply by.
    """
    if tunable.values is not None:
        return _neighbour(tunable.values, value, random)
    if value in tunable.special:
        return value
    assert tunable.range is not None and isinstance(value, int | float)
    if tunable.bins is not None:
        bins = [tunable.bin(number) for number in range(tunable.bins)]
        nearest = min(abs(b - value) for b in bins)
        return _neighbour(bins, next(b for b in bins if abs(b - value) == nearest), random)
    low, high = tunable.range
    factor = random.choice(factors)
    new = value * factor if low >= 0 or high <= 0 else value + (factor - 1) * (high - low)
    if tunable.type == "int":
        new = round(new)
        if new == value and factor != 1:
            new += 1 if (factor > 1) is (value >= 0) else -1
    taken: Json = tunable.take(name, min(max(new, low), high))
    return taken


def _neighbour(values: Sequence[Json], value: Json, random: Random) -> Json:
    place = values.index(value)
    beside = [values[p] for p in (place - 1, place + 1) if 0 <= p < len(values)]
    return random.choice(beside) if beside else value


def _label(lineage: Lineage) -> str:
    """The name of a member of a generation for people."""
    name = f"member {lineage.member} generation {lineage.generation}"
    return name + (f" from {trial_id(lineage.parent)}" if lineage.parent is not None else "")
