"""On a machine, without a driver: closes attempts of machines that no longer exist.

A machine that is preempted without notice leaves claims behind. A driver would close them. Without
a driver, the remaining machines close them by the listing of their group, and take over the work.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import cast

from drillyard.backend import Backend, Lease, Liveness
from drillyard.errors import InfrastructureError
from drillyard.leases.ledger import Ledger
from drillyard.leases.lost_attempts import LostAttemptCloser
from drillyard.mailbox import Mailbox
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.gcp import records
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf

log = logging.getLogger(__name__)


class _Neighbours:
    """The part of a backend that ``LostAttemptCloser`` uses: whether a ticket's machine exists."""

    def __init__(self, mailbox: Mailbox, group: InstanceGroupSelf) -> None:
        self._mailbox = mailbox
        self._group = group

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Returns GONE only for a machine of this group that is no longer listed."""
        box, lease_id = self._mailbox, lease.lease_id
        holder = records.holder_of(box, lease_id, ticket_id) if ticket_id else None
        if holder is None or holder.group != self._group.path:
            return Liveness.UNKNOWN  # of another group of the lease, which this machine cannot see
        members = self._group.members()
        if members is None:
            return Liveness.UNKNOWN
        return holder.liveness((m.name, m.id, m.stage) for m in members)


class NeighbourAttempts:
    """Closes lost attempts of the other machines of the group.

    Args:
        mailbox: The experiment.
        group: This machine's group.
        worker: Name of this worker, for the record.
        clock: Clock for the record.
    """

    def __init__(
        self, mailbox: Mailbox, group: InstanceGroupSelf, worker: str, clock: Clock = SYSTEM
    ) -> None:
        backend = cast(Backend, _Neighbours(mailbox, group))
        ledger = Ledger(mailbox)
        self._closer = LostAttemptCloser(mailbox, backend, ledger, worker, clock)

    def look(self, states: Mapping[str, TicketState]) -> None:
        """Closes lost attempts; leaves those whose state is unknown for the next call."""
        try:
            self._closer.close_lost(states)
        except InfrastructureError as error:
            log.info("cannot find out which other machines are alive: %s", error)
