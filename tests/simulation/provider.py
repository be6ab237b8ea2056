"""A simulated provider of machines, and its backend: pulls, paid, with a late listing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from drillyard.backend import Cost, Delays, Lease, Liveness, Order, Trait
from drillyard.backend.translation import translating
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ControlPlaneError, NoCapacity, PackagesMissing
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import WorkerRecord
from tests.simulation.patches import current, world
from tests.simulation.world import EPOCH, Host, Process

if TYPE_CHECKING:
    from tests.simulation.plan import Fault
    from tests.simulation.world import World

PRICE = 0.36
"""Price of one machine for an hour."""
TEARDOWN_S = 20.0


@dataclass
class Vm:
    """A machine at the provider.

    Attributes:
        name: Its name.
        order: What it works for.
        born_at: Virtual time.
        gone_at: When it was gone; None: it exists.
        ending_at: When its deletion was asked for.
    """

    name: str
    order: Order
    born_at: float
    host: Host
    gone_at: float | None = None
    ending_at: float | None = None
    booted: bool = False
    kind: str = "sim"

    @property
    def lease(self) -> str:
        """Its lease."""
        return self.order.lease_id

    @property
    def hosts(self) -> list[Host]:
        """Where its programs run."""
        return [self.host]


@dataclass
class SimCloud:
    """What the provider knows."""

    world: World
    vms: list[Vm] = field(default_factory=list)
    leases: dict[str, tuple[Order, float]] = field(default_factory=dict)
    """Lease -> order and when it was created."""
    undeletable: bool = False
    """Whether what is asked to end does not."""

    def trouble(self, fault: Fault, begins: bool) -> None:
        """Something is wrong from now on, or no longer."""
        assert fault.where == "undeletable", fault
        self.undeletable = begins

    def alive(self, lease: str) -> list[Vm]:
        """The machines of a lease that exist."""
        return [v for v in self.vms if v.order.lease_id == lease and v.gone_at is None]

    def create(self, order: Order, number: int, kind: str = "sim") -> None:
        """New machines; one that is stuck starts no program, and its provider never ends it.

        Raises:
            NoCapacity: There is no room.
        """
        if self.world.plan.during("full", self.world.time, kind):
            raise NoCapacity(f"simulated provider: {kind} has no room")
        self.leases.setdefault(order.lease_id, (order, self.world.time))
        for _ in range(number):
            name = f"vm{len(self.vms) + 1}"
            vm = Vm(name, order, self.world.time, self.world.host(name), kind=kind)
            self.vms.append(vm)
            self.world.note("cloud", f"creates {name} for {order.lease_id}")
            self.world.at(self.world.time + self.world.plan.boot_s, lambda vm=vm: self._boot(vm))
            if self.world.plan.during("stuck", self.world.time):
                vm.host.hit = True
            elif order.deadline is not None:
                limit = order.deadline - EPOCH
                self.world.at(max(limit, self.world.time), lambda vm=vm: self.end(vm, 1.0))
        self.world.after_change(f"cloud/{order.lease_id}")

    def left(self) -> list[str]:
        """What exists still."""
        return [vm.name for vm in self.vms if vm.gone_at is None]

    def run_program(self, vm: Vm) -> Process:
        """The program of a machine."""
        from tests.simulation.programs import machine_program

        return machine_program(self.world, vm)

    def _boot(self, vm: Vm) -> None:
        if vm.gone_at is None and vm.ending_at is None:
            vm.booted = True
            if not vm.host.hit:
                self.run_program(vm)

    def end(self, vm: Vm, after_s: float) -> None:
        """Ask for the end of a machine: its processes get SIGTERM, then it is gone."""
        from tests.simulation.patches import signal_to

        if vm.ending_at is None and vm.gone_at is None:
            vm.ending_at = self.world.time
            self.world.note("cloud", f"ends {vm.name} in {after_s:.0f} s")
            for process in list(vm.host.processes.values()):
                if process.kind == "worker":
                    signal_to(process, 15)
            self.world.at(self.world.time + after_s, lambda: self.gone(vm))

    def gone(self, vm: Vm, ghost_s: float = 0.0) -> None:
        """A machine is gone, with all that ran there, or as far as the provider knows."""
        if vm.gone_at is None:
            vm.gone_at = self.world.time
            vm.host.outlives_s = ghost_s
            self.world.note("cloud", f"{vm.name} is gone")
            self.world.cut(vm.host)

    def listed(self) -> list[Vm]:
        """Machines, as a late listing shows them."""
        then = self.world.time - self.world.plan.listing_lag_s * self.world.random.random()
        return [
            v for v in self.vms if v.born_at <= then and (v.gone_at is None or v.gone_at > then)
        ]


@translating()
class SimBackend:
    """The backend of the simulated provider."""

    kind, price = "sim", PRICE
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.PULLS, Trait.SPOT, Trait.PAID})

    def delays(self) -> Delays:
        """See ``HasDelays``."""
        lag = world().plan.listing_lag_s
        return Delays(setup_s=60.0, teardown_s=TEARDOWN_S, listing_lag_s=lag)

    def check(self, order: Order | None = None) -> list[Finding]:
        """Nothing is missing."""
        return []

    def provision(self, order: Order) -> Lease:
        """Create the machines of a lease once."""
        cloud = world().cloud

        def create() -> None:
            if order.lease_id not in cloud.leases:
                cloud.create(order, self._machines(order.workers), self.kind)

        _call(f"provision {order.lease_id}", create, changes=True)
        return _lease(order, self.kind)

    def tend(self, lease: Lease, workers: int) -> int:
        """Replace machines that are gone."""
        cloud = world().cloud

        def replace() -> None:
            there, needed = cloud.alive(lease.lease_id), self._machines(workers)
            if there and len(there) < needed:
                cloud.create(lease.order, needed - len(there), self.kind)

        _call(f"tend {lease.lease_id}", replace, changes=True)
        return workers

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Ask for a lease, or for the machine of a ticket."""
        host = None if ticket_id is None else _host_of(lease, ticket_id)
        there: list[Vm] = _call(
            f"probe {lease.lease_id}", lambda: world().cloud.alive(lease.lease_id)
        )
        if host is not None:
            there = [vm for vm in there if vm.name == host]
        if not there:
            return Liveness.GONE
        return Liveness.ALIVE if any(vm.booted for vm in there) else Liveness.PENDING

    def launch(self, lease: Lease, ticket_id: str) -> JsonObject | None:
        """Machines pull."""
        return None

    def logs(self, lease: Lease, handle: JsonObject | None, since: int = 0) -> Iterator[str]:
        """A line for each machine."""
        vms = _call(f"logs {lease.lease_id}", lambda: list(world().cloud.vms))
        lines = [f"{vm.name} was made" for vm in vms if vm.lease == lease.lease_id]
        yield from lines[since:]

    def reasons(self, lease: Lease) -> list[str]:
        """See ``ExplainsWaits``."""
        cloud = world().cloud
        denied = _call(f"reasons {lease.lease_id}", lambda: cloud.undeletable)
        return ["a policy denies the deletion"] if denied else []

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Machines pull."""

    def teardown(self, lease: Lease) -> None:
        """Ask for the end of every machine of a lease that the listing shows."""
        cloud = world().cloud

        def end() -> None:
            for vm in () if cloud.undeletable else cloud.listed():
                if vm.lease == lease.lease_id:
                    cloud.end(vm, 5.0 + 10.0 * world().random.random())

        _call(f"teardown {lease.lease_id}", end, changes=True)

    def leases(self) -> Iterator[Lease]:
        """What the provider lists."""
        listed = _call("list leases", world().cloud.listed)
        found = {vm.lease: vm.order for vm in listed if vm.kind == self.kind}
        for order in found.values():
            yield _lease(order, self.kind)

    def estimate(self, order: Order) -> Cost:
        """The price."""
        return Cost(per_hour=self.price * self._machines(order.workers))

    @staticmethod
    def _machines(workers: int) -> int:
        """A machine has several slots, and each of them is a worker."""
        return math.ceil(workers / world().plan.slots)


class DearBackend(SimBackend):
    """Another place of the same provider."""

    kind, price = "dear", 2 * PRICE


class AwayBackend(SimBackend):
    """A place whose packages this machine lacks."""

    kind = "away"

    @classmethod
    def extra(cls) -> str:
        """See ``NeedsExtra``."""
        raise PackagesMissing("the backend 'away' needs packages that are not installed")


def delete_self(vm: Vm) -> None:
    """A machine asks for its own end."""
    _call(f"delete {vm.name}", lambda: world().cloud.end(vm, 5.0), changes=True)


def _lease(order: Order, kind: str) -> Lease:
    created = world().cloud.leases.get(order.lease_id, (order, world().time))[1]
    return Lease(lease_id=order.lease_id, backend=kind, order=order, created_at=EPOCH + created)


def _host_of(lease: Lease, ticket: str) -> str | None:
    """The machine of the newest attempt of a ticket."""
    order = lease.order
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    newest = max((a for t, a, _ in mailbox.claims() if t == ticket), default=None)
    claim = None if newest is None else mailbox.read_claim(ticket, newest)
    if claim is None:
        return None
    worker = mailbox.read(f"workers/{claim.worker}.json", WorkerRecord)
    return None if worker is None else worker.host


def _call(what: str, happen, *, changes: bool = False):  # type: ignore[no-untyped-def]
    now = world()
    assert current() is not None
    return now.effect(
        "cloud",
        what,
        happen,
        latency_s=0.2 * (0.5 + now.random.random()),
        changes=changes,
        # A provider's library may raise what drillyard does not know.
        fail=lambda why: now.random.choice([ControlPlaneError, ConnectionResetError])(
            f"simulated provider: {why} ({what})"
        ),
    )
