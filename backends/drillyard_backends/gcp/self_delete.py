"""How a machine deletes itself. The last machine deletes the group, if its role allows that.

Records decide which machine is the last, not a count. Each machine that ends writes a record
before it reads the records of the others. So if two end together, at least one sees that all
have ended; and a claim ensures that only one deletes the group. Every step may be repeated. The
template stays, and with the role that ships the empty group too: they cost nothing, and the next
command or ``reap`` deletes them.
"""

from __future__ import annotations

import logging
import random
import threading

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError, InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Record
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.gcp.instance_group_self import Forbidden, InstanceGroupSelf
from drillyard_backends.gcp.managed import Stage
from drillyard_backends.gcp.records import MachineLeft

DELETES_A_SECOND = 4.0
"""Requests each second when hundreds of machines end at the same moment."""
RETRY_S = 20.0
"""Google's "done" does not prove anything: a machine that still runs asks again."""
GIVE_UP_S = 600.0
"""A machine that still runs after this time powers itself off."""
ASKED_IN_VAIN = 75
"""Exit code after that time: the start-up script powers the machine off without waiting again."""
log = logging.getLogger(__name__)


class GroupDeleter(Record):
    """``leases/<id>/last/<group's number>.json``: the machine that deletes the group."""

    machine: str
    written_at: float


class SelfDelete:
    """Deletes this machine.

    Args:
        mailbox: Mailbox of the experiment.
        order: The order of the lease.
        group: This machine's group.
        machine: Name of this machine.
        number: Google's number of this machine.
        clock: Clock for waiting.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        order: Order,
        group: InstanceGroupSelf,
        machine: str,
        number: str,
        clock: Clock = SYSTEM,
    ) -> None:
        self._mailbox = mailbox
        self._folder = f"leases/{order.lease_id}"
        self._group = group
        self._machine = machine
        self._number = number
        self._clock = clock
        self._spread_s = (order.all_workers - 1) / DELETES_A_SECOND

    def record(self, reason: str) -> None:
        """Records that this machine has finished; afterwards it only deletes itself."""
        record = MachineLeft(machine=self._machine, reason=reason, written_at=self._clock.now())
        try:
            self._mailbox.write(f"{self._folder}/left/{self._number}.json", record)
        except InfrastructureError as error:
            log.warning("cannot record that this machine has finished: %s", error)

    def wait(self, ended: threading.Event) -> None:
        """Spreads the requests of a large group: the last machine ends most others with the group.

        Args:
            ended: Set when this machine is being stopped.
        """
        self._clock.wait(ended, random.uniform(0.0, self._spread_s))

    def last(self) -> bool:
        """Returns True on one machine after all have finished, and False if that is unknown."""
        try:
            members = self._group.members()
            if members is None:
                return False
            prefix = self._mailbox.key(f"{self._folder}/left/")
            finished = {
                info.key[len(prefix) :].removesuffix(".json")
                for info in self._mailbox.store.list(prefix)
            }
            working = [
                m.name
                for m in members
                if m.name != self._machine
                and m.id not in finished
                and m.stage in (Stage.UP, Stage.COMING)
            ]
            if working:
                log.info("still at work: %s", ", ".join(working))
                return False
            claim = GroupDeleter(machine=self._machine, written_at=self._clock.now())
            return self._mailbox.create(
                f"{self._folder}/last/{self._group.incarnation()}.json", claim
            )
        except InfrastructureError as error:
            log.warning("cannot find out whether this machine is the last: %s", error)
            return False

    def delete(self, last: bool, ended: threading.Event) -> bool:
        """Requests the end of this machine, again until it comes.

        Args:
            last: True to delete the group, too.
            ended: Set when this machine is being stopped.

        Returns:
            True once this machine is being stopped; False after ``GIVE_UP_S``: a permission is
            missing, or Google does not answer.
        """
        began = self._clock.monotonic()
        while not ended.is_set():
            if self._clock.monotonic() - began > GIVE_UP_S + self._spread_s:
                return False
            try:
                self._request_end(last)
            except ControlPlaneError as error:
                log.warning("cannot end yet: %s", error)
            self._clock.wait(ended, RETRY_S + random.uniform(0.0, self._spread_s))
            # The last machine may have died between its claim and the delete.
            last = last or self._alone()
        return True

    def _request_end(self, last: bool) -> None:
        if last:
            try:
                self._group.delete()
                return
            except Forbidden as error:
                log.info("the next command or `drillyard reap` deletes the empty group: %s", error)
        self._group.delete_machine(self._machine)

    def _alone(self) -> bool:
        try:
            members = self._group.members()
        except ControlPlaneError:
            return False
        return members is not None and all(m.name == self._machine for m in members)
