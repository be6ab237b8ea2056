"""The port to a place that rents capacity. Work travels by the mailbox, not through here.

The contract, which ``drillyard.testing.BackendSuite`` checks on every implementation:

- Every verb is safe to repeat, from a new process, with nothing but the JSON of its arguments.
- ``provision`` returns at once; the same ``order.lease_id`` gives the same lease, never a second.
- ``teardown`` of what is gone is success; it asks, and ``leases()`` tells when it is true.
- ``probe`` answers UNKNOWN when it could not find out. UNKNOWN is not GONE.
- The driver has written its intent before ``provision``; a backend keeps no state of its own
  that a new process could not read back from the provider.
- Every verb raises nothing but ``DrillyardError``; ``backend.translation`` is the seam. An answer
  that says nothing of the lease (a conflict, a busy provider) is an ``InfrastructureError``: the
  caller looks again. Only ``AccessDenied`` ends a teardown early.

What only some providers can do is a protocol of its own in ``backend.capabilities``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Protocol

from drillyard.backend.records import Cost, Lease, Order
from drillyard.findings import Finding


class Liveness(enum.StrEnum):
    """What a provider knows of a worker or lease."""

    PENDING = "PENDING"
    ALIVE = "ALIVE"
    GONE = "GONE"
    UNKNOWN = "UNKNOWN"


class Trait(enum.StrEnum):
    """What a backend is like."""

    PULLS = "PULLS"
    """Workers take tickets from the mailbox by themselves; ``launch`` returns None."""
    SPOT = "SPOT"
    """Machines can be taken away."""
    SHARED = "SHARED"
    """The capacity is not ours alone; teardown frees our part only."""
    PAID = "PAID"
    """Costs money: ``budget.max_hours`` and ``max_cost`` are mandatory."""
    JOBS = "JOBS"
    """Each pushed ticket brings a worker of its own: none stands ready before."""


class Backend(Protocol):
    """A place that rents capacity."""

    @property
    def kind(self) -> str:
        """Its name in experiments; an attribute of the class."""

    @property
    def traits(self) -> frozenset[Trait]:
        """What it is like; an attribute of the class."""

    def check(self, order: Order | None = None) -> list[Finding]:
        """Login, quota, permissions (to delete, too), reachability; changes nothing.

        Everything that is missing in one list, each with the command that mends it as its fix.
        With an order also whether that very order can be had.
        """

    def provision(self, order: Order) -> Lease:
        """Rent; returns at once, idempotent by ``order.lease_id``."""

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Is the lease (or the worker of a ticket) alive?"""

    def launch(self, lease: Lease, ticket_id: str) -> dict[str, Any] | None:
        """Push one ticket; the provider's own id as JSON. None where workers pull."""

    def logs(self, lease: Lease, handle: dict[str, Any] | None, since: int = 0) -> Iterator[str]:
        """Lines that the provider kept of a machine, from line ``since`` on."""

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Stop a pushed ticket; idempotent."""

    def teardown(self, lease: Lease) -> None:
        """Ask for the end of everything that belongs to the lease; already gone is success."""

    def leases(self) -> Iterator[Lease]:
        """Everything of ours that the provider lists, whoever made it."""

    def estimate(self, order: Order) -> Cost:
        """Price an hour, from a dated list, and what will be created; asks nobody."""
