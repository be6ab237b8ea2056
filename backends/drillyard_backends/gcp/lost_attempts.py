"""On a machine, with nobody driving: attempts of machines that vanished are opened again.

A machine that is taken away without notice leaves claims behind. A driver would bury them; with
the lid closed, the machines that are left do, by the group's own listing, and take the work over.
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
    """What ``LostAttemptCloser`` asks of a backend: whether the machine of a ticket is there."""

    def __init__(self, mailbox: Mailbox, group: InstanceGroupSelf) -> None:
        self._mailbox = mailbox
        self._group = group

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """GONE only for a machine of this very group that its listing has no more."""
        box, lease_id = self._mailbox, lease.lease_id
        holder = records.holder_of(box, lease_id, ticket_id) if ticket_id else None
        if holder is None or holder.group != self._group.path:
            return Liveness.UNKNOWN  # of another group of the lease, which is not ours to see
        members = self._group.members()
        if members is None:
            return Liveness.UNKNOWN
        return holder.liveness((m.name, m.id, m.stage) for m in members)


class NeighbourAttempts:
    """Buries what neighbours held.

    Args:
        mailbox: The experiment.
        group: This machine's.
        worker: Who buries, for the record.
        clock: For the record.
    """

    def __init__(
        self, mailbox: Mailbox, group: InstanceGroupSelf, worker: str, clock: Clock = SYSTEM
    ) -> None:
        backend = cast(Backend, _Neighbours(mailbox, group))
        ledger = Ledger(mailbox, clock)
        self._closer = LostAttemptCloser(mailbox, backend, ledger, worker, clock)

    def look(self, states: Mapping[str, TicketState]) -> None:
        """Bury what is lost; what cannot be found out is left for the next look."""
        try:
            self._closer.close_lost(states)
        except InfrastructureError as error:
            log.info("whether neighbours are alive cannot be found out: %s", error)
