"""Pushes tickets to backends whose workers do not pull. The provider's id is saved before use."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

from drillyard.backend import Backend, ExplainsLosses, Lease, Liveness
from drillyard.documents.json_types import JsonObject
from drillyard.errors import InfrastructureError, UserError, WorkerLost
from drillyard.leases.lost_attempts import probe
from drillyard.leases.places import Places, answering
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Record
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import Cause
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.clock import SYSTEM, Clock

LOOK_S = 5.0
"""Seconds between two requests about a ticket that was pushed and not yet claimed."""
PAUSE_S = 10.0
"""Seconds before a lost ticket is pushed again; each later pause is twice as long. What ended it
may last for minutes, such as a store that machines cannot reach, and would otherwise use up all
pushes: together the pauses last five minutes."""
log = logging.getLogger(__name__)


class Launch(Record):
    """``launches/<ticket>.<attempt>.json``: a ticket that was pushed to a provider."""

    ticket: str
    attempt: int
    lease: str
    handle: JsonObject | None = None
    """The provider's id of it."""
    written_at: float


@dataclass
class _Pushed:
    lease: str
    looked_at: float
    losses: Counter[Cause] = field(default_factory=Counter)
    """How often it was pushed again, for each cause of its loss."""
    lost_at: float | None = None
    """When the provider was first seen to have lost it; None while it has it."""

    @property
    def times(self) -> int:
        """How often it was pushed."""
        return 1 + self.losses.total()

    def waits(self, ticket: str, now: float, cause: Cause) -> bool:
        """Whether it is too early to push it again, now that the provider has lost it.

        A preemption needs no pause: the next machine is not expected to share its fate.
        """
        if cause is Cause.PREEMPTION:
            return False
        pause_s = PAUSE_S * 2.0 ** self.losses[cause]
        if self.lost_at is None:
            self.lost_at = now
            log.warning(
                "%s ended before a worker began with it; it is sent again in %.0f s",
                ticket,
                pause_s,
            )
        return now - self.lost_at < pause_s


class Launcher:
    """Pushes each ticket that can be claimed once, and again if the provider has lost it.

    Args:
        mailbox: Keeps the provider's answers.
        backend: Where tickets are pushed (``launch`` is idempotent by ticket), or several places.
        only_open: Lets each push happen only while this driver drives and the lease is open.
        clock: For the record and for pauses.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        backend: Backend | Places,
        only_open: Callable[[Lease], AbstractContextManager[None]],
        clock: Clock = SYSTEM,
    ) -> None:
        self._mailbox = mailbox
        self._backend_of = answering(backend)
        self._only_open = only_open
        self._clock = clock
        self._pushed: dict[tuple[str, int], _Pushed] = {}

    def launch(self, lease: Lease, states: Iterable[TicketState]) -> None:
        """Push every ticket that can be claimed and that this lease does not have.

        A new driver pushes all of them again, which changes nothing if the provider has them.

        Raises:
            Superseded: Another driver took over.
            StoreUnavailable: Another command ended the lease.
            WorkerLost: A ticket was pushed repeatedly, and never claimed; see ``RETRIES``.
            InfrastructureError: The provider does not answer; call again.
        """
        full = False
        for state in states:
            if state.claimable is None:
                continue
            ticket, attempt = state.ticket.ticket, state.claimable
            known = self._pushed.get((ticket, attempt))
            again: tuple[_Pushed, Cause] | None = None
            if known is not None and known.lease == lease.lease_id:
                now = self._clock.monotonic()
                if now - known.looked_at < LOOK_S:
                    continue
                known.looked_at = now
                alive = probe(self._backend_of(lease), lease, ticket)
                if alive is Liveness.ALIVE:
                    known.lost_at = None
                if alive is not Liveness.GONE:
                    continue
                cause = self._lost_to(lease, ticket)
                if known.losses[cause] >= RETRIES[cause]:
                    raise WorkerLost(
                        f"{ticket} was sent to {lease.backend} {known.times} times, and no "
                        "worker ever started it",
                        hint=f"read the logs of its machines: drillyard logs "
                        f"{self._mailbox.experiment}",
                    )
                if known.waits(ticket, now, cause):
                    continue
                again = known, cause
            if full or not self._push(lease, ticket, attempt):
                full = True
            elif again:
                # Only now: a provider that refuses for minutes would use up all pushes.
                again[0].losses[again[1]] += 1
                again[0].lost_at = None
            else:
                self._pushed[(ticket, attempt)] = _Pushed(
                    lease.lease_id, self._clock.monotonic(), known.losses if known else Counter()
                )

    def _lost_to(self, lease: Lease, ticket: str) -> Cause:
        backend = self._backend_of(lease)
        with suppress(InfrastructureError, UserError):
            if isinstance(backend, ExplainsLosses):
                return backend.lost_to(lease, ticket)
        return Cause.INFRASTRUCTURE

    def _push(self, lease: Lease, ticket: str, attempt: int) -> bool:
        """Returns False while the lease does as many tickets as were ordered."""
        with self._only_open(lease):
            handle = self._backend_of(lease).launch(lease, ticket)
        if handle is None:
            return False
        path = f"launches/{ticket}.{attempt}.json"
        there = self._mailbox.read(path, Launch)
        if there is None or (there.lease, there.handle) != (lease.lease_id, handle):
            record = Launch(
                ticket=ticket,
                attempt=attempt,
                lease=lease.lease_id,
                handle=handle,
                written_at=self._clock.now(),
            )
            self._mailbox.write(path, record)
        return True
