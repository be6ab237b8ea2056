"""Who chooses the next trial, and the choosers that need no memory.

A chooser is asked for the trial at an index; the choice is frozen in the mailbox before anything
is done with it. Choosers without a memory are pure functions of the index and of what was chosen
before, so that a resume repeats nothing and needs nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from drillyard.errors import ConfigError
from drillyard.mailbox.records import Lineage, TrialOutcome, TrialRecord
from drillyard.spec.constraints import Constraint
from drillyard.spec.study import StudySpec
from drillyard.spec.tunables import Space, Tunable

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox
    from drillyard.spec import ExperimentSpec

GRID_POINTS = 5
DRAWS = 2_000
"""So often chance looks for an assignment that is allowed and new."""
MAX_CELLS = 1_000_000

Assignment = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What a trial will be.

    Attributes:
        assignment: Every tunable and its value.
        chooser: Who chose it.
        parts: Parts of the experiment that it has instead of the file's.
        label: What people call it.
        seeds: Its own seeds; None: the file's.
        memory: Its number in the chooser's memory.
        lineage: Of a member of a population.
    """

    assignment: Assignment
    chooser: str
    parts: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    seeds: tuple[int, ...] | None = None
    memory: int | None = None
    lineage: Lineage | None = None


class Chooser(Protocol):
    """Chooses trials.

    ``ask`` may be slow; it is never called from a thread that must not wait. Whatever it returned
    and was not ``kept`` never happened: the process may have been killed in between.
    """

    adaptive: bool
    """Learns from outcomes: asking early costs knowledge."""
    total: int | None
    """How many trials it has; None: any number."""

    def reconcile(
        self, records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> None:
        """Bring the memory in line with the mailbox, which is the truth; called once at start."""

    def ready(self, index: int) -> bool:
        """False while the trial at an index cannot be chosen, because others have to end first."""

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """The trial at an index; None when there is nothing left that is new.

        Args:
            index: From 1, among the study's trials.
            taken: Assignments of the trials before.
        """

    def kept(self, record: TrialRecord) -> None:
        """The choice is frozen under this record."""

    def tell(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """A trial has ended; told once, or again after a resume."""


class ChooserKind(Protocol):
    """What an entry point of ``drillyard.choosers`` names: a class, made without arguments."""

    def check(self, spec: ExperimentSpec) -> None:
        """Verify a study before anything runs; asks nobody, and creates nothing.

        Args:
            spec: With a ``study``.

        Raises:
            ConfigError: It cannot work; with the field, and what helps.
        """

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        """The chooser of a study that was checked.

        Args:
            spec: With a ``study``.
            mailbox: Of the experiment; what was chosen is read from there by ``reconcile``.

        Raises:
            ConfigError: It cannot work.
            InfrastructureError: What it needs cannot be reached.
        """


class Memoryless:
    """What choosers without a memory share."""

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
    """Goes through what is known beforehand.

    Args:
        choices: In order.
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
    """Goes through what a file lists, each once, whatever was begun before and in which order.

    Args:
        choices: All of them.
        wanted: The positions of those that are to be begun.
    """

    def __init__(self, choices: Sequence[Choice], wanted: Sequence[int]) -> None:
        super().__init__(choices)
        self._left = list(wanted)
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
    """Which choice each frozen trial is, by position; None for one that is not there any more."""
    free = {p: (c.assignment, c.parts) for p, c in enumerate(choices)}
    found: list[int | None] = []
    for record in records:
        own = (record.assignment, record.parts)
        position = next((p for p, listed in free.items() if listed == own), None)
        found.append(position)
        if position is not None:
            del free[position]
    return found


class Chance(Memoryless):
    """Draws by the tunables' own distributions, weights and special values.

    Args:
        space: What is drawn.
        constraints: What an assignment must fulfil.
        seed: The same seed draws the same at the same index.
        defaults_first: The first one has the defaults.
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
        found = drawn(self._space, self._constraints, f"{self._seed}/{index}", taken)
        return None if found is None else Choice(found, "random")


def drawn(
    space: Space, constraints: Sequence[Constraint], seed: str, taken: Iterable[Assignment]
) -> Assignment | None:
    """An assignment by chance that is allowed and was not taken; None where none is found."""
    random = Random(seed)
    before = {key_of(a) for a in taken}
    for _ in range(DRAWS):
        found = space.draw(random)
        if allowed(found, constraints) and key_of(found) not in before:
            return found
    return None


def allowed(assignment: Mapping[str, Any], constraints: Sequence[Constraint]) -> bool:
    """True where every constraint is fulfilled."""
    return all(c.holds(assignment) for c in constraints)


def key_of(assignment: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """An assignment as something that sets can hold."""
    return tuple(sorted((k, (type(v).__name__, v)) for k, v in assignment.items()))


# -- grid -----------------------------------------------------------------------------------------


def cells(
    space: Space, wanted: Mapping[str, Any], constraints: Sequence[Constraint]
) -> list[Assignment]:
    """The cells of a grid that are allowed; what is dear to change (a group's cost) changes least.

    Args:
        space: The tunables.
        wanted: Name -> values, or how many of them.
        constraints: Cells that fulfil not all of them are left out.

    Raises:
        ConfigError: A name or value that is not there, or more than a million cells.
    """
    for name in wanted:
        if name not in space:
            from drillyard.registry import nearest

            raise ConfigError(
                f"{name!r} is no active tunable",
                field=f"study.grid.{name}",
                value=wanted[name],
                allowed=", ".join(sorted(space.tunables)) or "no group of tunables is active",
                hint=nearest(name, sorted(space.tunables)),
            )
    order = sorted(space.tunables, key=lambda n: -space.groups[space.group_of[n]].cost)
    axes = [_axis(name, space.tunables[name], wanted.get(name)) for name in order]
    count = math.prod(len(axis) for axis in axes)
    if count > MAX_CELLS:
        raise ConfigError(
            f"the grid has {count:,} cells",
            field="study.grid",
            allowed=f"at most {MAX_CELLS:,}",
            hint="give fewer points: `grid: {name: 3}`, or choose `random`",
        )
    found = []
    for values in itertools.product(*axes):
        chosen = dict(zip(order, values, strict=True))
        assignment = {name: chosen[name] for name in space.tunables}
        if allowed(assignment, constraints):
            found.append(assignment)
    return found


def _axis(name: str, tunable: Tunable, wanted: Any) -> list[Any]:
    if isinstance(wanted, list):
        try:
            return [tunable.take(name, value) for value in wanted]
        except ConfigError as error:
            raise error.but(field=f"study.grid.{name}") from error.__cause__
    if tunable.values is not None:
        return list(tunable.values)
    points = list(dict.fromkeys(_points(tunable, wanted or tunable.bins or GRID_POINTS)))
    special = [tunable.take(name, v) for v in tunable.special]
    return [*(v for v in special if v not in points), *points]


def _points(tunable: Tunable, count: int) -> Iterator[Any]:
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
    """The choices of ``cycles``: what is not named has its default.

    Raises:
        ConfigError: A name or value that is not there.
    """
    found = []
    for number, values in enumerate(study.cycles):
        try:
            found.append(Choice(space.assign(values), "manual"))
        except ConfigError as error:
            field = f"study.cycles[{number}].{error.field}"
            raise error.but(field=field) from error.__cause__
    return found
