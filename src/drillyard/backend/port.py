"""The port to a place that rents capacity. Work travels by the mailbox, not through here.

The contract, which ``drillyard.testing.BackendSuite`` checks on every implementation:

- Every verb is safe to repeat, from a new process, with nothing but the JSON of its arguments.
- ``provision`` returns at once; the same ``order.lease_id`` gives the same lease, never a second.
- ``teardown`` of what is gone is success; it asks, and ``leases()`` tells when it is true.
- ``probe`` answers UNKNOWN when it could not find out. UNKNOWN is not GONE.
- The driver has written its intent before ``provision``; a backend keeps no state of its own
  that a new process could not read back from the provider.
- Foreign exceptions become ``InfrastructureError`` or ``UserError`` at one seam.

What only some providers have is an attribute that a backend may leave out; ``listing_lag_s``,
``prepare_store``, ``setup_s``, ``teardown_s``, ``provider_now``, ``console`` and ``protect`` below
read it.
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
    TENDED = "TENDED"
    """Machines come one by one and may be replaced: ``tend`` is called while work is left."""


class Backend(Protocol):
    """A place that rents capacity."""

    kind: str
    traits: frozenset[Trait]

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

    def tend(self, lease: Lease, workers: int) -> int:
        """Keep a lease at its strength; called only with ``Trait.TENDED``, while work is left.

        One step: what a machine that was lost, or never came, makes necessary. May take as long
        as a few calls do.

        Args:
            lease: Which.
            workers: How many are of use now.

        Returns:
            How many can be expected; fewer than asked for when there is no room for more.

        Raises:
            NoCapacity: There are none, or too few, and the search is over.
            InfrastructureError: It could not be found out; call again.
        """

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


def listing_lag_s(backend: Backend) -> float:
    """Seconds by which ``leases()`` may lag behind the truth; ``backend.listing_lag_s`` or 0."""
    return float(getattr(backend, "listing_lag_s", 0.0))


def prepare_store(backend: Backend, url: str) -> None:
    """Make the place of the mailbox where the backend can; ``backend.prepare_store``.

    Args:
        backend: Whose machines will use it.
        url: Of the store.

    Raises:
        StoreUnavailable: It is not there and cannot be made.
    """
    make = getattr(backend, "prepare_store", None)
    if make is not None:
        make(url)


def setup_s(backend: Backend) -> float:
    """Seconds that machines may take to be found and to start; ``backend.setup_s`` or 0."""
    return float(getattr(backend, "setup_s", 0.0))


def teardown_s(backend: Backend) -> float:
    """Seconds that machines take to disappear; ``backend.teardown_s`` or 0."""
    return float(getattr(backend, "teardown_s", 0.0))


def provider_now(backend: Backend) -> float | None:
    """The provider's clock, epoch seconds; ``backend.now()``, or None where it has none."""
    ask = getattr(backend, "now", None)
    return None if ask is None else float(ask())


def console(backend: Backend, lease: Lease) -> str | None:
    """The provider's own page on which a lease's machines are seen; ``backend.console``.

    Args:
        backend: Of the lease.
        lease: Which.

    Returns:
        Its address; None where the provider has no such page.
    """
    find = getattr(backend, "console", None)
    return None if find is None else str(find(lease))


def protect(backend: Backend, lease: Lease, until: float | None) -> bool:
    """Mark a lease's machines so that a reaper spares them; ``backend.protect``.

    Args:
        backend: Of the lease.
        lease: Which; ``leases()`` then tells ``provider["protected_until"]``.
        until: Epoch seconds; None takes the mark away.

    Returns:
        False where the provider's machines carry no such mark.
    """
    mark = getattr(backend, "protect", None)
    if mark is None:
        return False
    mark(lease, until)
    return True
