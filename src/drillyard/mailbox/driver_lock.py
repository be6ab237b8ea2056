"""Who drives an experiment: one living driver, by put-if-absent and a heartbeat.

``driver/<n>.json`` is created by exactly one of several drivers that start at once, and rewritten
as its heartbeat. The driver with the highest number drives. A driver that was believed dead and
continues sees a higher number, and stops without changing anything.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable

from drillyard.errors import AlreadyDriven, Superseded, UserError
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.command_hints import command
from drillyard.mailbox.mailbox import new_token
from drillyard.mailbox.records import DriverRecord, WorkerRecord
from drillyard.mailbox.silence import Silence
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.durations import duration
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.system.processes import ProcessId

STALE_S = 30.0
"""A driver without a heartbeat for this long, by the store's clock, seems to be dead."""
WATCHED_S = 15.0
"""Its heartbeat must stay the same for so long before another driver takes over: several times
the pause between two heartbeats."""
LOOK_S = 1.0
DELETING = "deleting.json"
"""Written before anything of an experiment is deleted; removed last."""
_HELD: set[str] = set()
"""Tokens of the locks that this process holds."""
MACHINE = "DRILLYARD_MACHINE"
"""Set by a backend on a rented machine to the name that the provider knows it by."""
log = logging.getLogger(__name__)


def host() -> str:
    """The name by which processes of one machine know each other."""
    return os.environ.get(MACHINE) or platform.node()


class DriverLock:
    """The right to drive an experiment.

    Args:
        mailbox: The experiment.
        clock: For the times in the record.
        deletes: The experiment is taken to delete it, also when that has begun.
        say: Called with a sentence about what is waited for.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        clock: Clock = SYSTEM,
        *,
        deletes: bool = False,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self._mailbox = mailbox
        self._deletes = deletes
        self._clock = clock
        self._say = say
        self._silence = Silence()
        self._watched: int | None = None
        """Number of the driver of which it was said that it is watched."""
        self._record: DriverRecord | None = None

    @property
    def number(self) -> int:
        """This driver's number; 0 before ``take``."""
        return self._record.number if self._record else 0

    def take(self, command: list[str]) -> DriverRecord:
        """Become the driver. A dead one is taken over: at once if it is known to be dead.

        Otherwise its heartbeat is watched for ``WATCHED_S`` first.

        Args:
            command: How this driver was started, for people.

        Raises:
            AlreadyDriven: Another one is alive.
        """
        me = ProcessId.current()
        while True:
            # If another driver was faster, it has this number already, and the loop starts again.
            number = self.check_free() + 1
            now = self._clock.now()
            record = DriverRecord(
                number=number,
                host=host(),
                pid=me.pid,
                pid_started=me.started,
                boot_id=boot_id(),
                pid_namespace=pid_namespace(),
                token=new_token(),
                command=command,
                started_at=now,
                written_at=now,
            )
            # Held before it is written: another thread of this process may read it at once.
            _HELD.add(record.token)
            try:
                if self._mailbox.create(f"driver/{record.number}.json", record):
                    self._record = record
                    return record
            finally:
                if self._record is not record:
                    _HELD.discard(record.token)

    def check_free(self) -> int:
        """Look for a living driver.

        Returns:
            The number of the newest driver, which is dead; 0 when there never was one.

        Raises:
            AlreadyDriven: There is one.
            UserError: The experiment is being deleted.
        """
        if not self._deletes and self._mailbox.store.stat(self._mailbox.key(DELETING)):
            raise UserError(
                f"experiment {self._mailbox.experiment!r} is being deleted",
                hint=f"finish that with {command('delete', self._mailbox)}, or choose another "
                f"name: --name {self._mailbox.experiment}-2",
            )
        while True:
            other = self._mailbox.driver()
            if other is None:
                return 0
            alive = self._alive(other)
            if alive:
                raise AlreadyDriven(
                    f"experiment {self._mailbox.experiment!r} already has a driver: process "
                    f"{other.pid} on {other.host}",
                    hint=f"watch it ({command('status', self._mailbox)}), stop it "
                    f"({command('cancel', self._mailbox)}), or choose another name: "
                    f"--name {self._mailbox.experiment}-2",
                )
            if alive is False:
                return other.number
            self._clock.wait(threading.Event(), max(LOOK_S, pace(self._mailbox.store)))

    def _alive(self, driver: DriverRecord) -> bool | None:
        """Whether a driver is alive; None: its heartbeat is old, and is not watched for long."""
        if living(self._mailbox, driver):
            return True
        if known_alive(driver) is False:
            return False
        info = self._mailbox.store.stat(self._mailbox.key(f"driver/{driver.number}.json"))
        if info is None:
            return False
        if self._silence.changed(driver.number, info.updated_at):
            return True  # by a clock that differs from the store's
        between_s = max(LOOK_S, pace(self._mailbox.store))
        same_s = self._silence.seconds(
            driver.number, info.updated_at, self._clock.monotonic(), 2 * between_s
        )
        needed_s = max(WATCHED_S, 8 * between_s)
        if same_s >= needed_s:
            return False
        if self._watched != driver.number:
            self._watched = driver.number
            age_s = self._mailbox.store.now() - info.updated_at
            self._say(
                f"the last heartbeat of the experiment's driver (process {driver.pid} on "
                f"{driver.host}) is {duration(age_s)} old: waiting {duration(needed_s)} to see "
                "whether it still works"
            )
        return None

    def beat(self) -> None:
        """Write the heartbeat.

        Raises:
            Superseded: Another driver took over.
        """
        if self._record is None:
            return
        self.must_drive()
        self._record = self._record.model_copy(update={"written_at": self._clock.now()})
        self._mailbox.write(f"driver/{self.number}.json", self._record)

    def must_drive(self) -> None:
        """Check that this driver still drives.

        Raises:
            Superseded: Another one took over.
        """
        newest = max(self._mailbox.driver_numbers(), default=0)
        if newest > self.number:
            raise Superseded(
                f"driver {newest} took over experiment {self._mailbox.experiment!r}",
                hint="this command stops here; the other driver continues",
            )

    def release(self, outcome: str) -> None:
        """Record that this driver has ended; safe to call again."""
        if self._record is None or self._record.ended_at is not None:
            return
        _HELD.discard(self._record.token)  # first: the store may be away
        now = self._clock.now()
        changes = {"written_at": now, "ended_at": now, "outcome": outcome}
        self._record = self._record.model_copy(update=changes)
        self._mailbox.write(f"driver/{self.number}.json", self._record)

    def forget(self) -> None:
        """Stop holding a lock whose record was deleted with its experiment."""
        if self._record is not None:
            _HELD.discard(self._record.token)
        self._record = None


def process_alive(record: DriverRecord | WorkerRecord) -> bool | None:
    """Whether the process that wrote a record is alive, as far as this process can tell.

    Returns:
        None if its pid cannot be checked here: another host, another boot, another pid namespace,
        or a record without these fields. Then only the heartbeat shows whether it is alive.
    """
    here = boot_id(), pid_namespace()
    known = None not in here and (record.boot_id, record.pid_namespace) == here
    if not known or record.host != host() or not record.pid:
        return None
    return ProcessId(record.pid, record.pid_started).alive()


def known_alive(record: DriverRecord) -> bool | None:
    """Whether a driver is alive, where that is certain; None: only its heartbeat can show it."""
    if record.ended_at is not None:
        return False
    alive = process_alive(record)
    if alive is False:
        return False
    if alive and record.pid == os.getpid():
        return record.token in _HELD
    return None


def living(mailbox: Mailbox, record: DriverRecord) -> bool:
    """Whether a driver is alive.

    Args:
        mailbox: The experiment.
        record: The driver's last record.
    """
    known = known_alive(record)
    if known is not None:
        return known
    age = mailbox.age(f"driver/{record.number}.json")
    return age is not None and age < STALE_S


def driven(mailbox: Mailbox) -> bool:
    """True while the newest driver of an experiment is alive."""
    newest = mailbox.driver()
    return newest is not None and living(mailbox, newest)
