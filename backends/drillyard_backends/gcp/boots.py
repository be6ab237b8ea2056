"""Machines that ended before they did any work: their last words, and when these end a lease.

A machine that cannot start costs minutes, and the next one of the same image in the same place
fails in the same way. It was not taken away, so it does not lead to an on-demand machine. Its
serial port is read until its program has reached the bucket; after that, its own record says why
it left.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drillyard.errors import InfrastructureError
from drillyard_backends.gcp.errors import NoRoom
from drillyard_backends.gcp.lives import View
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.naming import Machine
from drillyard_backends.last_words import HINT, alike

READS = 4
"""Serial ports that are read in one look; each has up to a megabyte."""
SILENT_S = 600.0
"""A machine that has written no line for so long will write none."""
NOTHING = "it wrote nothing"
END = ": this machine ends itself"
"""What the start-up script says after a reason."""
STOPPED = "this machine is being stopped"
_WORDS = re.compile(r"drillyard: (.*)")
_Listed = Mapping[Machine, tuple[Group, Managed]]
log = logging.getLogger(__name__)


@dataclass
class _Boot:
    place: str
    up_since: float
    read_at: float = float("-inf")
    text: str | None = None


class FailedBoots:
    """The machines of one lease that never worked.

    A lease of one machine ends with it, and another lease follows. So the leases of an experiment
    share what they remember.

    Args:
        serial: Returns what a machine has written to its serial port; None: it cannot be read.
        begun: Returns the machines whose program has reached the bucket.
        unready: Returns why machines left that were never ready for work.
        keep: Saves what a machine wrote.
        first: Place and last words -> when the first machine of the experiment said them.
    """

    def __init__(
        self,
        serial: Callable[[Group, Managed], str | None],
        begun: Callable[[], Sequence[Machine]],
        unready: Callable[[], Mapping[Machine, str]],
        keep: Callable[[Machine, str], None],
        first: dict[tuple[str, str], float],
    ) -> None:
        self._serial = serial
        self._begun = begun
        self._unready = unready
        self._keep = keep
        self._first = first
        self._boots: dict[Machine, _Boot] = {}
        self._at_work: dict[Machine, _Boot] = {}
        """Machines that have begun, while they are listed."""
        self.machines: set[Machine] = set()
        """Those that never worked."""

    def remove(self, machine: Machine) -> None:
        """Forgets a machine that is deleted for another reason."""
        self._boots.pop(machine, None)
        self._at_work.pop(machine, None)

    def look(self, view: View, now: float) -> set[Machine]:
        """Reads what machines say that have not begun, and judges those that have ended.

        Args:
            view: What is listed.
            now: Monotonic seconds.

        Returns:
            Machines that are up and will never begin.

        Raises:
            NoRoom: Two machines ended in the same place with the same last words.
        """
        listed = {m.machine: (group, m) for group, rows in view.items() for m in rows}
        for machine, (group, managed) in listed.items():
            new = not any(machine in each for each in (self._boots, self._at_work, self.machines))
            if new and managed.id and managed.stage is Stage.UP:
                self._boots[machine] = _Boot(group.place.name, now)
        there = {m for m, (_, managed) in listed.items() if managed.stage is not Stage.LOST}
        ended = self._at_work.keys() - there
        try:
            begun = {*self._begun()} if self._boots else set()
            unready = self._unready() if ended else {}
        except InfrastructureError as error:
            log.info("which machines have begun is not known yet: %s", error)
            return set()
        for machine in begun & self._boots.keys():
            self._at_work[machine] = self._boots.pop(machine)
        self._read(listed, now)
        for machine in ended:
            boot = self._at_work.pop(machine)
            if machine in unready:
                self._judge(machine, boot, unready[machine], now)
            else:
                self._forget(boot.place)
        return self._silent(listed, now)

    def _read(self, listed: _Listed, now: float) -> None:
        """Reads some ports, those that were not read for longest first."""
        there = sorted(self._boots.keys() & listed.keys(), key=lambda m: self._boots[m].read_at)
        for number, machine in enumerate(there):
            group, managed = listed[machine]
            if number < READS or managed.stage is Stage.LOST:
                boot = self._boots[machine]
                boot.read_at = now
                text = self._serial(group, managed)
                boot.text = boot.text if text is None else text
        for machine, boot in [*self._boots.items()]:
            if boot.text is None:
                continue
            words, ends = last_words(boot.text)
            row = listed[machine][1] if machine in listed else None
            lost = row is not None and row.stage is Stage.LOST and row.sure
            if ends:
                self._keep(machine, boot.text)
            # What is listed no more may have been deleted before it said all.
            if ends or (lost and words != STOPPED):
                self._judge(machine, self._boots.pop(machine), words, now)
        for machine in self._boots.keys() - there:
            del self._boots[machine]

    def _silent(self, listed: _Listed, now: float) -> set[Machine]:
        silent = {
            machine
            for machine, boot in self._boots.items()
            if now - boot.up_since >= SILENT_S
            and listed[machine][1].stage is Stage.UP
            and boot.text is not None
            and "drillyard" not in boot.text
        }
        for machine in silent - self.machines:
            self._judge(machine, self._boots[machine], NOTHING, now)
        return silent  # also later, if Google refuses to delete them

    def _judge(self, machine: Machine, boot: _Boot, words: str, now: float) -> None:
        if machine in self.machines:
            return
        self.machines.add(machine)
        first = self._first.setdefault((boot.place, alike(words)), now)
        # One that came up before, and is at work, shows that the image and the place are right.
        works = any(b.place == boot.place and b.up_since <= first for b in self._at_work.values())
        # Several that start together may meet the same outage: the second try decides.
        if boot.up_since > first and not works:
            raise NoRoom(
                f"two machines in {boot.place} ended in the same way before they did any work: "
                f"{words}",
                hint=HINT,
            )

    def _forget(self, place: str) -> None:
        """Forgets the failures in a place where a machine has worked since."""
        for key in [key for key in self._first if key[0] == place]:
            del self._first[key]


def last_words(text: str) -> tuple[str, bool]:
    """Returns the last words of a machine, and whether it has said that it ends.

    Args:
        text: What it wrote to its serial port.
    """
    lines = [line.strip() for line in _WORDS.findall(text)]
    reasons = [line.partition(END)[0] for line in lines if END in line]
    if not reasons and STOPPED in lines:
        return STOPPED, False  # what follows is how the agent ended then
    return (reasons[0] if reasons else lines[-1] if lines else NOTHING), bool(reasons)
