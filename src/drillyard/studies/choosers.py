"""The interface of choosers, which choose the next trial, and the choosers without a memory.

A chooser returns the trial at an index; the choice is frozen in the mailbox before it is used.
Choosers without a memory are pure functions of the index and of earlier choices, so that a resume
repeats nothing and needs no other state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeAlias

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError
from drillyard.mailbox.records import Lineage, TrialOutcome, TrialRecord
from drillyard.spec.constraints import Constraint
from drillyard.spec.study import StudySpec
from drillyard.spec.tunables import Space, Tunable
from drillyard.spec.tunables.space import not_active

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox
    from drillyard.spec import ExperimentSpec

GRID_POINTS = 5
DRAWS = 2_000
"""Number of random draws to find an assignment that is allowed and new."""
MAX_CELLS = 1_000_000

Assignment: TypeAlias = JsonObject
"""Name of a tunable -> its value."""


@dataclass(frozen=True)
class Choice:
    """The choice of a trial.

    Attributes:
        assignment: Every tunable and its value.
        chooser: Who chose it.
        parts: Parts of the experiment that replace those of the file.
        label: Its name for people.
        seeds: Its own seeds; None for those of the file.
        memory: Its number in the chooser's memory.
        lineage: The lineage of a member of a population.
    """

    assignment: Assignment
    chooser: str
    parts: JsonObject = field(default_factory=dict)
    label: str = ""
    seeds: tuple[int, ...] | None = None
    memory: int | None = None
    lineage: Lineage | None = None


class Chooser(Protocol):
    """Chooses trials.

    ``ask`` may be slow; it is never called from a thread that must not wait. A choice without a
    later ``kept`` does not count: the process may have been killed in between.
    """

    adaptive: bool
    """The chooser learns from outcomes, so that an early choice knows less."""
    total: int | None
    """Number of its trials; None for any number."""

    def reconcile(
        self, records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> None:
        """Make the memory consistent with the mailbox, which decides.

        Called at the start, and again when another driver had frozen a trial meanwhile: then the
        last choice was not kept, and the records may contain trials that were not chosen here.
        """

    def ready(self, index: int) -> bool:
        """False while the trial at an index must wait for other trials to end."""

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """The trial at an index; None if no new assignment remains.

        Args:
            index: Index among the study's trials, from 1.
            taken: Assignments of the earlier trials.
        """

    def kept(self, record: TrialRecord) -> None:
        """Receive the record under which the choice was frozen."""

    def tell(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """Receive the outcome of a trial; it may come again after a resume."""


class ChooserKind(Protocol):
    """What an entry point of ``drillyard.choosers`` names: a class, made without arguments."""

    def check(self, spec: ExperimentSpec) -> None:
        """Verify a study before anything runs. It opens no connection and creates nothing.

        Args:
            spec: With a ``study``.

        Raises:
            ConfigError: It cannot work; with the field, and what helps.
        """

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        """The chooser of a study that was checked.

        Args:
            spec: With a ``study``.
            mailbox: Mailbox of the experiment; ``reconcile`` reads earlier choices from it.

        Raises:
            ConfigError: It cannot work.
            InfrastructureError: What it needs cannot be reached.
        """


class Memoryless:
    """The common part of choosers without a memory."""

    adaptive = False
    total: int | None = None

    def reconcile(
        self, records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> None:
        """See ``Chooser``."""

    def ready(self, index: int) -> bool:
        """See ``Chooser``."""
        del index
        return True

    def kept(self, record: TrialRecord) -> None:
        """See ``Chooser``."""

    def tell(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """See ``Chooser``."""


class Fixed(Memoryless):
    """Returns choices that are known beforehand.

    Args:
        choices: The choices in order.
        circle: Begin again after the last.
    """

    def __init__(self, choices: Sequence[Choice], *, circle: bool = False) -> None:
        self._choices = choices
        self._circle = circle
        self.total = None if circle else len(choices)

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """See ``Chooser``."""
        del taken
        if self._circle:
            return self._choices[(index - 1) % len(self._choices)]
        return self._choices[index - 1] if index <= len(self._choices) else None


class Listed(Fixed):
    """Returns the experiments that a file lists, each once, in whatever order earlier ones began.

    Args:
        choices: All listed experiments.
        positions: The positions of those that should begin.
    """

    def __init__(self, choices: Sequence[Choice], positions: Sequence[int]) -> None:
        super().__init__(choices)
        self._left = list(positions)
        self.total = len(self._left)

    def reconcile(
        self, records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> None:
        """See ``Chooser``."""
        search = [r for r in records if r.search]
        for position in matched(self._choices, search):
            if position in self._left:
                self._left.remove(position)
        self.total = len(search) + len(self._left)

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """See ``Chooser``."""
        del index, taken
        return self._choices[self._left[0]] if self._left else None

    def kept(self, record: TrialRecord) -> None:
        """See ``Chooser``."""
        self._left.pop(0)


def matched(choices: Sequence[Choice], records: Sequence[TrialRecord]) -> list[int | None]:
    """The position of the choice of each frozen trial; None if it is no longer listed."""
    free = {p: (c.assignment, c.parts) for p, c in enumerate(choices)}
    positions: list[int | None] = []
    for record in records:
        frozen = (record.assignment, record.parts)
        position = next((p for p, listed in free.items() if listed == frozen), None)
        positions.append(position)
        if position is not None:
            del free[position]
    return positions


class Chance(Memoryless):
    """Draws from the tunables' distributions, weights and special values.

    Args:
        space: The tunables.
        constraints: Conditions that an assignment must fulfil.
        seed: The same seed draws the same at the same index.
        defaults_first: The first trial has the defaults.
    """

    def __init__(
        self, space: Space, constraints: Sequence[Constraint], seed: int, *, defaults_first: bool
    ) -> None:
        self._space = space
        self._constraints = constraints
        self._seed = seed
        self._defaults_first = defaults_first

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """See ``Chooser``."""
        if index == 1 and self._defaults_first:
            first = self._space.defaults()
            if allowed(first, self._constraints):
                return Choice(first, "defaults")
        assignment = drawn(self._space, self._constraints, f"{self._seed}/{index}", taken)
        return None if assignment is None else Choice(assignment, "random")


def drawn(
    space: Space, constraints: Sequence[Constraint], seed: str, taken: Iterable[Assignment]
) -> Assignment | None:
    """A random assignment that is allowed and not taken; None if none is found."""
    random = Random(seed)
    before = list(taken)
    for _ in range(DRAWS):
        assignment: Assignment = space.draw(random)
        if allowed(assignment, constraints) and not is_taken(assignment, before):
            return assignment
    return None


def allowed(assignment: Mapping[str, Json], constraints: Sequence[Constraint]) -> bool:
    """True where every constraint is fulfilled."""
    return all(c.holds(assignment) for c in constraints)


def is_taken(assignment: Assignment, taken: Sequence[Assignment]) -> bool:
    """True if an earlier trial has the same assignment."""
    same = [before for before in taken if before == assignment]  # 1 and True are equal here
    return any(key_of(before) == key_of(assignment) for before in same)


def key_of(assignment: Mapping[str, Json]) -> Hashable:
    """An assignment as a key of sets."""
    return tuple(sorted((k, (type(v).__name__, v)) for k, v in assignment.items()))


# -- grid -----------------------------------------------------------------------------------------


def cells(
    space: Space, grid: Mapping[str, int | list[Json]], constraints: Sequence[Constraint]
) -> list[Assignment]:
    """The cells of a grid that are allowed; tunables that are expensive to change change least.

    The cost of a change is that of the tunable's group.

    Args:
        space: The tunables.
        grid: Name -> values, or the number of values.
        constraints: Cells that do not fulfil all of them are left out.

    Raises:
        ConfigError: A name or value does not exist, or there are more than a million cells.
    """
    for name in grid:
        if name not in space:
            raise not_active(name, space.tunables, f"study.grid.{name}", grid[name])
    order = sorted(space.tunables, key=lambda n: -space.groups[space.group_of[n]].cost)
    axes = [_axis(name, space.tunables[name], grid.get(name)) for name in order]
    count = math.prod(len(axis) for axis in axes)
    if count > MAX_CELLS:
        raise ConfigError(
            f"the grid has {count:,} cells",
            field="study.grid",
            allowed=f"at most {MAX_CELLS:,}",
            hint="give fewer points: `grid: {name: 3}`, or choose `random`",
        )
    assignments = []
    for values in itertools.product(*axes):
        chosen = dict(zip(order, values, strict=True))
        assignment = {name: chosen[name] for name in space.tunables}
        if allowed(assignment, constraints):
            assignments.append(assignment)
    return assignments


def _axis(name: str, tunable: Tunable, values: int | list[Json] | None) -> list[Json]:
    if isinstance(values, list):
        try:
            return [tunable.take(name, value) for value in values]
        except ConfigError as error:
            raise error.but(field=f"study.grid.{name}") from error.__cause__
    if tunable.values is not None:
        return list(tunable.values)
    points = list(dict.fromkeys(_points(tunable, values or tunable.bins or GRID_POINTS)))
    special: list[Json] = [tunable.take(name, v) for v in tunable.special]
    return [*(v for v in special if v not in points), *points]


def _points(tunable: Tunable, count: int) -> Iterator[float]:
    """Evenly spaced values of a range, both ends included (by magnitude where it is ``log``)."""
    assert tunable.range is not None
    low, high = tunable.range
    if tunable.type == "int" and not tunable.log and high - low + 1 <= count:
        yield from range(int(low), int(high) + 1)
        return
    for number in range(count):
        share = number / (count - 1) if count > 1 else 0.5
        yield tunable.inside(share)


# -- from the file --------------------------------------------------------------------------------


def manual(study: StudySpec, space: Space) -> list[Choice]:
    """The choices of ``cycles``; a tunable that is not named has its default.

    Raises:
        ConfigError: A name or value does not exist.
    """
    choices = []
    for number, values in enumerate(study.cycles):
        try:
            choices.append(Choice(space.assign(values), "manual"))
        except ConfigError as error:
            field = f"study.cycles[{number}].{error.field}"
            raise error.but(field=field) from error.__cause__
    return choices
