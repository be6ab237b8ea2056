"""A backend that costs money, lists late and fails on demand; its machines are entries in a dict.

What is there survives the backend object, as at a provider. ``calls`` has every call that would
have changed something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar

from drillyard.backend import Backend, Cost, Delays, Lease, Liveness, Order, Part, Trait
from drillyard.errors import InfrastructureError
from drillyard.findings import Finding, Severity
from drillyard.mailbox import Store
from drillyard.mailbox.memory import MemoryStore
from drillyard.registry import names, register
from drillyard.system.clock import SYSTEM, Clock

if "paid" not in names("backends"):
    register("backends", "paid", "tests.helpers.paid_backend:PaidBackend")
if "aged" not in names("stores"):
    register("stores", "aged", "tests.helpers.paid_backend:aged_store")

TODAY = date.today().isoformat()
"""Date of its prices, which are never old."""


def aged_store(url: str) -> Store:
    """``aged://name``: in memory, stamped by the provider's clock."""
    return MemoryStore(url, PaidBackend.clock)


@dataclass
class Machine:
    lease: Lease
    made_at: float
    gone_at: float | None = None
    """Deleted then; listed for the lag after it."""


class PaidBackend:
    """See the module."""

    kind = "paid"
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.PULLS, Trait.PAID})

    machines: ClassVar[dict[str, Machine]] = {}
    calls: ClassVar[list[tuple[str, str]]] = []
    clock: ClassVar[Clock] = SYSTEM
    price: ClassVar[float] = 2.0
    unpriced: ClassVar[list[str]] = []
    listing_lag_s: ClassVar[float] = 0.0
    lose_deletes: ClassVar[int] = 0
    """So many teardowns say done and delete nothing."""
    forbidden: ClassVar[bool] = False
    """Deleting is refused."""
    refusals: ClassVar[dict[str, list[Exception]]] = {}
    """Lease -> what the next teardowns of it raise."""
    words: ClassVar[list[str]] = []
    skew_s: ClassVar[float] = 0.0

    @classmethod
    def reset(cls, clock: Clock = SYSTEM) -> None:
        cls.machines, cls.calls, cls.clock = {}, [], clock
        cls.listing_lag_s, cls.lose_deletes, cls.forbidden = 0.0, 0, False
        cls.words, cls.price, cls.refusals, cls.unpriced = [], 2.0, {}, []

    def delays(self) -> Delays:
        return Delays(listing_lag_s=self.listing_lag_s)

    def now(self) -> float:
        return self.clock.now()

    def check(self, order: Order | None = None) -> list[Finding]:
        return [Finding(Severity.OK, "login", "somebody")]

    def provision(self, order: Order) -> Lease:
        self.calls.append(("provision", order.lease_id))
        there = self.machines.get(order.lease_id)
        if there is None or there.gone_at is not None:
            now = self.clock.now()
            lease = Lease(lease_id=order.lease_id, backend="paid", order=order, created_at=now)
            there = self.machines[order.lease_id] = Machine(lease, now)
        return there.lease

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        there = self.machines.get(lease.lease_id)
        return Liveness.ALIVE if there and there.gone_at is None else Liveness.GONE

    def launch(self, lease: Lease, ticket_id: str) -> dict[str, Any] | None:
        return None

    def logs(self, lease: Lease, handle: dict[str, Any] | None, since: int = 0) -> Iterator[str]:
        yield from self.words[since:]

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        return None

    def teardown(self, lease: Lease) -> None:
        self.calls.append(("teardown", lease.lease_id))
        refusals = self.refusals.get(lease.lease_id)
        if refusals:
            raise refusals.pop(0)
        if self.forbidden:
            raise InfrastructureError("403: deleting is not allowed")
        if self.lose_deletes:
            type(self).lose_deletes -= 1
            return
        there = self.machines.get(lease.lease_id)
        if there is not None and there.gone_at is None:
            there.gone_at = self.clock.now()

    def leases(self) -> Iterator[Lease]:
        now, lag = self.clock.now(), self.listing_lag_s
        for machine in self.machines.values():
            seen = now - machine.made_at >= lag
            left = machine.gone_at is not None and now - machine.gone_at >= lag
            if seen and not left:
                yield machine.lease

    def protect(self, lease: Lease, until: float | None) -> None:
        self.calls.append(("protect", lease.lease_id))
        machine = self.machines[lease.lease_id]
        provider = {**machine.lease.provider, "protected_until": until}
        machine.lease = machine.lease.model_copy(update={"provider": provider})

    def estimate(self, order: Order) -> Cost:
        parts = [Part(what="machine x1", count=order.workers, per_hour=self.price, where="a, b")]
        sum_ = 0.0 if self.unpriced else self.price * order.workers
        return Cost(
            per_hour=sum_,
            prices_of=TODAY,
            parts=parts,
            unpriced=list(self.unpriced),
        )

    @classmethod
    def alive(cls) -> list[str]:
        """Ids of what really runs, whatever is listed."""
        return [name for name, m in cls.machines.items() if m.gone_at is None]


def a_backend() -> Backend:
    """Lets mypy prove that it is one."""
    return PaidBackend()
