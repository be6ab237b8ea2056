"""Which machines of a lease have lived: their numbers, their next names, their losses."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence, Set

from drillyard.errors import InfrastructureError
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.zones import Candidate

View = Mapping[Group, Sequence[Managed]]
log = logging.getLogger(__name__)


class Lives:
    """The machines of one lease that have lived, by what is listed and by their own words.

    Args:
        begun: Returns the machines that started so far, also those that an earlier driver saw.
        done: Returns the machines that ended because they had no more work.
    """

    def __init__(
        self,
        begun: Callable[[], Sequence[naming.Machine]],
        done: Callable[[], Set[naming.Machine]],
    ) -> None:
        self._begun: Callable[[], Sequence[naming.Machine]] | None = begun
        self._done = done
        self._known_done: Set[naming.Machine] = frozenset()
        self._asked_done = False
        self._refused: set[str] = set()
        self.generations: dict[int, int] = {}

    def remember(self, view: View) -> None:
        """What has lived counts also when it is listed no more, however it is lost.

        Google lists a machine that it could not make for a while as one that is being deleted.
        That one never lived: it would count as a loss, and its search would begin again.
        """
        self._asked_done = False
        for machines in view.values():
            for managed in machines:
                if managed.stage is Stage.COMING:
                    if managed.trouble is not None:
                        self._refused.add(managed.name)
                elif (
                    managed.stage is not Stage.GOING
                    or managed.sure
                    or managed.id
                    or managed.name not in self._refused
                ):
                    self._lived(managed.machine)
        if self._begun is not None:
            try:
                for machine in self._begun():
                    self._lived(machine)
                self._begun = None
            except InfrastructureError as error:
                log.info("earlier machines are not known yet: %s", error)

    def _lived(self, machine: naming.Machine) -> None:
        """The next machine of this number gets another name."""
        index, generation = machine.index, machine.generation + 1
        self.generations[index] = max(generation, self.generations.get(index, 0))

    def losses(self, machine: naming.Machine) -> int:
        """Returns how often earlier machines of this number were lost.

        One that ended because it had no work was not lost: a lease whose work comes in bursts
        would rent on-demand machines after its third pause, and none at all after its twentieth.
        """
        if not machine.generation:
            return 0
        if not self._asked_done:  # once after each look, however many machines are missing
            self._asked_done = True
            try:
                self._known_done = self._done()
            except InfrastructureError as error:
                log.info("which machines ended without work is not known yet: %s", error)
        earlier = (naming.Machine(machine.index, n) for n in range(machine.generation))
        return sum(earlier_life not in self._known_done for earlier_life in earlier)


def surplus(view: View, candidates: Sequence[Candidate]) -> dict[Group, list[Managed]]:
    """Machines that share their number with another one, so that two workers have one name.

    An answer that was lost, and a late listing, can make a machine in two places. One that is up
    is kept rather than one that is not, a later generation rather than an earlier one, and then
    the one in the place that is tried first.

    Args:
        view: What is listed.
        candidates: Places in the order in which they are tried.
    """
    order = {(c.place.path, c.variant): number for number, c in enumerate(candidates)}
    places: dict[int, list[tuple[Group, Managed]]] = {}
    for group, machines in view.items():
        for machine in machines:
            if machine.stage in (Stage.UP, Stage.COMING):
                places.setdefault(machine.machine.index, []).append((group, machine))

    def rank(entry: tuple[Group, Managed]) -> tuple[bool, int, int]:
        group, machine = entry
        place = order.get((group.place.path, group.variant), len(order))
        return machine.stage is not Stage.UP, -machine.machine.generation, place

    extra: dict[Group, list[Managed]] = {}
    for entries in places.values():
        for group, machine in sorted(entries, key=rank)[1:]:
            extra.setdefault(group, []).append(machine)
    return extra


def at_strength(view: View, wanted: int) -> bool:
    """Returns whether a lease has exactly its machines, all up or coming without trouble."""
    machines = [machine for each in view.values() for machine in each]
    return len(machines) == wanted and all(
        m.stage is Stage.UP or (m.stage is Stage.COMING and m.trouble is None) for m in machines
    )


def missing_machines(
    view: View,
    counted: Sequence[Managed],
    count: int,
    generations: Mapping[int, int],
) -> list[naming.Machine]:
    """Names for machines that are to be made.

    Args:
        view: What is listed, also what is on its way out.
        counted: What of it is there or coming.
        count: How many are missing.
        generations: Number -> the least generation of its next machine. It knows which of those
            that are being deleted have lived.

    Returns:
        The lowest free numbers. A machine that lived before comes back as its next generation,
        one that could not be made keeps its own.
    """
    occupied = {managed.machine.index for managed in counted}
    next_ = dict(generations)
    for machines in view.values():
        for managed in machines:
            lived = managed.stage is Stage.LOST or (
                managed.trouble is None and managed.stage is not Stage.GOING
            )
            generation = managed.machine.generation + lived
            index = managed.machine.index
            next_[index] = max(generation, next_.get(index, 0))
    free = (index for index in itertools.count() if index not in occupied)
    return [naming.Machine(index, next_.get(index, 0)) for index in itertools.islice(free, count)]
