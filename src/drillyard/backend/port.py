"""The port to a provider of capacity. Work travels through the mailbox, not through this port.

The contract, which ``drillyard.testing.BackendSuite`` checks on every implementation:

- Every verb is safe to repeat, from a new process, with nothing but the JSON of its arguments.
- ``provision`` returns at once; the same ``order.lease_id`` gives the same lease, never a second.
- ``teardown`` of what is gone is success. It only requests; ``leases()`` shows when it is done.
- ``probe`` returns UNKNOWN if it could not find out. UNKNOWN is not GONE.
- The driver has written its intent before ``provision``; a backend keeps no state of its own
  that a new process could not read back from the provider.
- Every verb raises only ``DrillyardError``; ``backend.translation`` ensures it. An answer that
  says nothing about the lease (a conflict, a busy provider) is an ``InfrastructureError``: the
  caller tries again. Only ``AccessDenied`` ends a teardown early.

``backend.capabilities`` has a protocol for each thing that only some providers can do.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Protocol

from drillyard.backend.records import Cost, Lease, Order
from drillyard.documents.json_types import JsonObject
from drillyard.findings import Finding


class Liveness(enum.StrEnum):
    """What a provider knows about a worker or a lease."""

    PENDING = "PENDING"
    ALIVE = "ALIVE"
    GONE = "GONE"
    UNKNOWN = "UNKNOWN"


class Trait(enum.StrEnum):
    """A property of a backend."""

    PULLS = "PULLS"
    """Workers take tickets from the mailbox themselves; ``launch`` returns None."""
    SPOT = "SPOT"
    """Machines can be preempted."""
    SHARED = "SHARED"
    """Others use the capacity, too; teardown frees only our part."""
    PAID = "PAID"
    """It costs money: ``budget.max_hours`` and ``max_cost`` are mandatory."""
    JOBS = "JOBS"
    """Each pushed ticket starts its own worker: none waits before."""
    HOSTS = "HOSTS"
    """``Order.hosts`` are further workers of its leases, which host copies without a ticket."""


class Backend(Protocol):
    """A provider of capacity."""

    @property
    def kind(self) -> str:
        """Name of the backend in experiments; an attribute of the class."""

    @property
    def traits(self) -> frozenset[Trait]:
        """Properties of the backend; an attribute of the class."""

    def check(self, order: Order | None = None) -> list[Finding]:
        """Checks login, quota, permissions (also to delete) and reachability; changes nothing.

        Returns everything that is missing in one list, each with the command that fixes it. With
        an order, it also checks whether that order can be provisioned.
        """

    def provision(self, order: Order) -> Lease:
        """Rents capacity; returns at once, idempotent by ``order.lease_id``."""

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Returns whether the lease (or the worker of a ticket) is alive."""

    def launch(self, lease: Lease, ticket_id: str) -> JsonObject | None:
        """Pushes one ticket; returns the provider's own id as JSON.

        Returns None if workers pull, and while the lease does as many tickets as were ordered:
        the provider might have room for more, which would not be counted. Ask again.
        """

    def logs(self, lease: Lease, handle: JsonObject | None, since: int = 0) -> Iterator[str]:
        """Yields the log lines that the provider kept of a machine, from line ``since`` on."""

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Stops a pushed ticket; idempotent."""

    def teardown(self, lease: Lease) -> None:
        """Requests the end of everything that belongs to the lease; already gone is success."""

    def leases(self) -> Iterator[Lease]:
        """Yields every lease of drillyard that the provider lists, whoever created it."""

    def estimate(self, order: Order) -> Cost:
        """Returns the price from a dated list, and what will be created; makes no request."""
