"""Dask as a backend: tickets are tasks; a cluster is joined by its address, or started and owned.

Joined: every Dask worker that is used gets a station (see ``station``), and the lease is those
stations: teardown ends them and takes the tasks back, the cluster stays. Owned: the lease is a
detached program of this machine that holds the cluster, found and ended as the local agent is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from drillyard.backend import Cost, Delays, Lease, Liveness, Order, Trait
from drillyard.backend.settings.model import configured
from drillyard.backend.translation import translating
from drillyard.errors import (
    ConfigError,
    DrillyardError,
    InfrastructureError,
    UserError,
    WorkerLost,
)
from drillyard.findings import Finding, Severity
from drillyard.mailbox import Mailbox, open_store
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.optional_packages import install
from drillyard_backends.dask import versions, worker_proxies
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.cluster import SETTINGS, door_of
from drillyard_backends.dask.pushing import Pusher
from drillyard_backends.dask.settings import DaskConfig, refuse_public
from drillyard_backends.sessions import Sessions, default_runtime


@translating()
class DaskBackend:
    """Rents workers of a Dask cluster.

    Args:
        clock: For the stamps of leases.
        **settings: See ``DaskConfig``.

    Raises:
        ConfigError: Unknown or impossible settings.
    """

    kind = "dask"
    traits: ClassVar[frozenset[Trait]] = frozenset()
    Config = DaskConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Any) -> None:
        self.config = configured(self.kind, DaskConfig, settings)
        self._clock = clock
        self._sessions = Sessions(
            self.kind,
            self.config.runtime or default_runtime("dask"),
            self._program,
            self.config.stop_grace_s,
            clock,
        )
        self._pushers: dict[str, Pusher] = {}
        self._unanswered_since: float | None = None
        if self.config.address is not None:
            self.traits = self.traits | {Trait.SHARED}  # type: ignore[misc]

    def delays(self) -> Delays:
        """A cluster's processes take a while to start, beside the workers' own setup."""
        return Delays(setup_s=30.0)

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Dask itself; of a cluster to join its address, versions and workers; changes nothing."""
        if importlib.util.find_spec("distributed") is None:
            return [Finding(Severity.ERROR, "dask", "Dask is not installed here", install("dask"))]
        if self.config.address is None:
            return self._check_here()
        self._refuse_public()
        try:
            door = self._joined()
            findings = versions.look(door)
            workers = door.workers()
        except InfrastructureError as error:
            return [
                Finding(
                    Severity.ERROR,
                    "dask",
                    str(error),
                    error.hint or "start the cluster",
                    infrastructure=True,
                )
            ]
        threads = sum(int(w["nthreads"]) for w in workers.values())
        findings.append(
            Finding(
                Severity.OK,
                "dask",
                f"{len(workers)} workers, {threads} threads at {self.config.address}",
            )
            if workers
            else Finding(
                Severity.WARNING,
                "dask",
                f"no workers at {self.config.address}",
                "start some: dask worker ADDRESS",
            )
        )
        if order is not None and order.gpus and not worker_proxies.able(order, workers):
            findings.append(
                Finding(
                    Severity.ERROR,
                    "resources.gpus",
                    f"no Dask worker declares {order.gpus} of the resource GPU",
                    f"dask worker ADDRESS --resources GPU={order.gpus}",
                )
            )
        return findings

    def provision(self, order: Order) -> Lease:
        """Start the cluster of a lease, or open its stations on the one that is joined."""
        if self.config.address is None:
            return self._sessions.provision(order)
        self._refuse_public()
        door = self._joined()
        self._open_more(door, order, order.workers)
        return self._joined_lease(order, self._clock.now())

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """ALIVE while the cluster, or a station on it, lives; a ticket while anybody has it."""
        if "address" not in lease.provider:
            alive = self._sessions.probe(lease)
            if alive is not Liveness.ALIVE or ticket_id is None:
                return alive
        if ticket_id is not None and self._pusher(lease).holds(ticket_id):
            return Liveness.PENDING
        door = self._door(lease)
        if door is None:
            return Liveness.PENDING
        try:
            found = worker_proxies.of_lease(door, lease.lease_id)
            if ticket_id is not None:
                handed = any(ticket_id in one["tickets"] for one in found.values())
                return Liveness.ALIVE if handed else Liveness.GONE
            if found:
                return Liveness.ALIVE
            return Liveness.GONE if door.workers() else Liveness.PENDING
        except InfrastructureError:
            return Liveness.UNKNOWN

    def launch(self, lease: Lease, ticket_id: str) -> dict[str, Any]:
        """Push one ticket as a task with a key of its own, unless the scheduler has it."""
        return self._pusher(lease).push(ticket_id)

    def tend(self, lease: Lease, workers: int) -> int:
        """Open stations on workers that came, and give up a cluster that stays without any.

        Raises:
            WorkerLost: No answer, or no worker, for as long as the settings allow.
        """
        door = self._door(lease)
        if door is None:  # its scheduler is about to start
            return workers
        try:
            found = self._open_more(door, lease.order, workers)
            self._pusher(lease).pump()
            trouble = "" if found else f"the cluster at {door.address} has no worker for this"
        except UserError:
            raise
        except InfrastructureError as error:
            found, trouble = workers, str(error)
        if not trouble:
            self._unanswered_since = None
            return found
        now = self._clock.monotonic()
        self._unanswered_since = self._unanswered_since or now
        if now - self._unanswered_since > self.config.no_workers_timeout_s:
            raise WorkerLost(
                f"{trouble}, for {self.config.no_workers_timeout_s:g} s",
                hint="start workers, or raise no_workers_timeout_s of backends.dask; the same "
                "command goes on",
            )
        return workers

    def logs(
        self, lease: Lease, handle: dict[str, Any] | None = None, since: int = 0
    ) -> Iterator[str]:
        """What a cluster that was started here said, and the agents beside its workers."""
        lines: list[str] = []
        if "address" not in lease.provider:
            lines += self._sessions.logs(lease)
        door = self._door(lease)
        if door is not None:
            lines += worker_proxies.logs(door, lease.lease_id)
        yield from lines[since:]

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Take a ticket back that no worker has begun; who works on it hears of it by mailbox."""
        if self._door(lease) is not None:
            with contextlib.suppress(InfrastructureError):
                self._pusher(lease).cancel(ticket_id)

    def teardown(self, lease: Lease) -> None:
        """End the cluster; on a joined one take the tasks back and end the stations."""
        door = self._door(lease)
        if "address" not in lease.provider and self.config.address is None:
            if door is not None:
                door.forget()
            self._pushers.pop(lease.lease_id, None)
            self._sessions.teardown(lease)
            return
        door = door or self._joined()
        tickets = _tickets(lease)
        if tickets:
            self._pusher(lease).cancel_all(tickets)
        worker_proxies.close(door, lease.lease_id)
        self._pushers.pop(lease.lease_id, None)

    def leases(self) -> Iterator[Lease]:
        """Clusters that this user started here, and stations on the cluster that is joined.

        Raises:
            InfrastructureError: The scheduler does not answer: what lives there is not known.
        """
        yield from self._sessions.leases()
        if self.config.address is None:
            return
        found: dict[str, Order] = {}
        for mine in worker_proxies.living(self._joined()).values():
            for one in mine:
                order = Order.model_validate(one["order"])
                found.setdefault(order.lease_id, order)
        for _, order in sorted(found.items()):
            yield self._joined_lease(order, self._clock.now())

    def estimate(self, order: Order) -> Cost:
        """Free, as far as is known: what a cluster class rents has its own prices."""
        if self.config.cluster is not None:
            return Cost(note=f"what {self.config.cluster} rents is not priced here")
        return Cost(note="your own machine" if self.config.address is None else "your own cluster")

    # -- inside -------------------------------------------------------------------------------

    def _check_here(self) -> list[Finding]:
        place = self._sessions.runtime
        place = next(p for p in (place, *place.parents) if p.exists())
        free = shutil.disk_usage(place).free
        words = f"{free / 2**30:.1f} GiB free for a cluster's files in {place}"
        return [
            Finding(Severity.OK, "dask", words)
            if free > 1e9
            else Finding(
                Severity.WARNING,
                "dask",
                f"only {words}",
                "set runtime of backends.dask to a larger disk",
            ),
        ]

    def _refuse_public(self) -> None:
        try:
            refuse_public(self.config.address or "")
        except ValueError as error:
            raise ConfigError(
                str(error),
                field="backends.dask.address",
                value=self.config.address,
                hint="tls://, with tls_ca_file, tls_cert and tls_key",
            ) from None

    def _program(self, order: Order, folder: Path) -> list[str]:
        """The program that holds a cluster of our own."""
        (folder / SETTINGS).write_text(self.config.model_dump_json(), encoding="utf-8")
        (folder / "scheduler.json").unlink(missing_ok=True)
        return [sys.executable, "-m", "drillyard_backends.dask.cluster", str(folder)]

    def _joined(self) -> SchedulerAddress:
        assert self.config.address is not None
        return SchedulerAddress(
            self.config.address, self.config.security, self.config.connect_timeout_s
        )

    def _joined_lease(self, order: Order, created_at: float) -> Lease:
        return Lease(
            lease_id=order.lease_id,
            backend=self.kind,
            order=order,
            provider={"address": self.config.address},
            created_at=created_at,
        )

    def _door(self, lease: Lease) -> SchedulerAddress | None:
        """How a lease's scheduler is reached; None before it listens, or when it is gone."""
        address = lease.provider.get("address")
        if address is not None:
            return SchedulerAddress(
                str(address), self.config.security, self.config.connect_timeout_s
            )
        return door_of(self._sessions.folder(lease.lease_id), self.config.connect_timeout_s)

    def _pusher(self, lease: Lease) -> Pusher:
        pusher = self._pushers.get(lease.lease_id)
        if pusher is None:
            door = self._door(lease)
            if door is None:
                raise InfrastructureError(f"the scheduler of {lease.lease_id} is not there yet")
            limit = lease.order.workers if "address" in lease.provider else None
            pusher = self._pushers[lease.lease_id] = Pusher(door, lease.order, limit)
        return pusher

    def _open_more(self, door: SchedulerAddress, order: Order, wanted: int) -> int:
        """Open stations until they have room for as many runs as wanted.

        Returns:
            Runs that can go side by side; 0 without a worker.
        """
        workers = worker_proxies.able(order, door.workers())
        have = worker_proxies.of_lease(door, order.lease_id)
        room = sum(worker_proxies.slots(order, w) for a, w in workers.items() if a in have)
        more = {}
        for address, worker in workers.items():
            if room >= wanted:
                break
            if address not in have:
                more[address] = worker
                room += worker_proxies.slots(order, worker)
        if self.config.address is not None:  # of our own cluster, its program opens them
            worker_proxies.open_on(door, order, more)
        return min(room, wanted)


def _tickets(lease: Lease) -> list[str]:
    """The tickets of a lease's experiment, as far as its mailbox can be read."""
    with contextlib.suppress(DrillyardError):
        return list(
            Mailbox(open_store(lease.order.store_url), lease.order.experiment).ticket_ids()
        )
    return []
