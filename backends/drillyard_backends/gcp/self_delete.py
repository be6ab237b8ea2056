"""How a machine ends itself: through its group, and the last one takes the group along.

Who is last is decided by records, not by counting: each machine that leaves says so before it
looks at who is left, so of two that leave together at least one sees that all have left; and the
right to delete the group is claimed, so that one does. All of it may be repeated. The template
stays: it costs nothing, nobody on the machine may delete it, and the next command or reap does.
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
from drillyard_backends.gcp.groups import Stage
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf

LEAVE_A_SECOND = 4.0
"""How many of hundreds of machines that are done at the same moment ask Google at once."""
ASK_AGAIN_S = 20.0
"""Google's "done" is no proof: who still lives asks again."""
UNHEARD_S = 600.0
"""A machine that is not ended within this time of asking is not heard: it powers itself off."""
log = logging.getLogger(__name__)


class MachineLeft(Record):
    """``leases/<id>/left/<machine's number>.json``: this machine does nothing any more."""

    machine: str
    reason: str
    written_at: float


class GroupDeleter(Record):
    """``leases/<id>/last/<group's number>.json``: who deletes the group."""

    machine: str
    written_at: float


class SelfDelete:
    """Ends this machine.

    Args:
        mailbox: The experiment.
        order: Of the lease.
        group: This machine's.
        machine: Its name.
        number: Google's number of it.
        clock: For waiting.
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
        self._spread_s = (order.workers - 1) / LEAVE_A_SECOND

    def say(self, reason: str) -> None:
        """Write down that this machine has left; what it does afterwards is only to end."""
        left = MachineLeft(machine=self._machine, reason=reason, written_at=self._clock.now())
        try:
            self._mailbox.write(f"{self._folder}/left/{self._number}.json", left)
        except InfrastructureError as error:
            log.warning("nobody hears that this machine leaves: %s", error)

    def wait(self, ended: threading.Event) -> None:
        """Let the others of a large group ask too: most are ended with the group by the last one.

        Args:
            ended: Set when this machine is being stopped.
        """
        self._clock.wait(ended, random.uniform(0.0, self._spread_s))

    def last(self) -> bool:
        """True for one machine, after all of the group have left. False when unknown."""
        try:
            members = self._group.members()
            if members is None:
                return False
            prefix = self._mailbox.key(f"{self._folder}/left/")
            left = {
                info.key[len(prefix) :].removesuffix(".json")
                for info in self._mailbox.store.list(prefix)
            }
            at_work = [
                m.name
                for m in members
                if m.name != self._machine
                and m.id not in left
                and m.stage in (Stage.UP, Stage.COMING)
            ]
            if at_work:
                log.info("still at work: %s", ", ".join(at_work))
                return False
            claim = GroupDeleter(machine=self._machine, written_at=self._clock.now())
            return self._mailbox.create(
                f"{self._folder}/last/{self._group.incarnation()}.json", claim
            )
        except InfrastructureError as error:
            log.warning("who is last cannot be found out: %s", error)
            return False

    def go(self, last: bool, ended: threading.Event) -> bool:
        """Ask for the end, again until it comes.

        Args:
            last: The group goes too.
            ended: Set when this machine is being stopped.

        Returns:
            Whether this machine is being stopped; False after ``UNHEARD_S`` in which it was not:
            a right is missing, or Google does not hear.
        """
        began = self._clock.monotonic()
        while not ended.is_set():
            if self._clock.monotonic() - began > UNHEARD_S + self._spread_s:
                return False
            try:
                what = self._group.delete if last else self._delete_me
                if not what():
                    log.info("the group is gone already")
            except ControlPlaneError as error:
                log.warning("cannot end yet: %s", error)
            self._clock.wait(ended, ASK_AGAIN_S + random.uniform(0.0, self._spread_s))
            # Whoever was last may have died between its claim and the deed.
            last = last or self._alone()
        return True

    def _delete_me(self) -> bool:
        return self._group.delete_machine(self._machine)

    def _alone(self) -> bool:
        try:
            members = self._group.members()
        except ControlPlaneError:
            return False
        return members is not None and all(m.name == self._machine for m in members)
