"""What the tests of a backend have in common: fixtures, patience, looking at the listing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from drillyard.backend import Backend, Lease, Order


def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Poll until a condition holds.

    Raises:
        AssertionError: It did not within the time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.05)


class BackendTests:
    """Inherited; the fixtures ``settings``, ``backend`` and ``order`` come from the user."""

    patience_s = 600.0
    """How long this provider may take to start or to end something: ends a hang, says nothing
    about speed."""
    at_once_s = 60.0
    """``provision`` must have returned by then: it does not wait for machines."""

    @pytest.fixture(autouse=True)
    def _leave_nothing(self, backend: Backend, order: Order) -> Iterator[None]:
        yield
        for lease in list(backend.leases()):
            if lease.lease_id == order.lease_id:
                backend.teardown(lease)

    def listed(self, backend: Backend, order: Order) -> list[Lease]:
        """What the provider lists of an order."""
        return [lease for lease in backend.leases() if lease.lease_id == order.lease_id]

    def found(self, backend: Backend, order: Order) -> Lease:
        """The one lease of an order, once the listing (which may be late) shows it."""
        until(lambda: self.listed(backend, order), self.patience_s, "a lease in the listing")
        (lease,) = self.listed(backend, order)
        return lease

    def gone(self, backend: Backend, order: Order) -> None:
        """Wait until the provider lists nothing of an order."""
        until(lambda: not self.listed(backend, order), self.patience_s, "an empty listing")
