"""Dask as a backend: tickets are tasks on a cluster that is joined or started.

Joined: every Dask worker in use gets a worker proxy (see ``worker_proxy``). The lease is the
set of proxies: teardown ends them and cancels the tasks, and the cluster stays. Started: the lease
is a detached program of this machine that holds the cluster, found and ended like a local agent.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from drillyard.backend import Cost, Delays, Lease, Liveness, Order, Trait
from drillyard.backend.settings.model import configured
from drillyard.backend.translation import translating
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import (
    ConfigError,
    DrillyardError,
    InfrastructureError,
    UserError,
    WorkerLost,
)
from drillyard.findings import Finding, passed, problem, warning
from drillyard.mailbox import Mailbox, open_store
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.optional_packages import install
from drillyard_backends.claims import holder_of
from drillyard_backends.dask import versions, worker_proxies
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.cluster import SETTINGS, address_of
from drillyard_backends.dask.pushing import Pusher
from drillyard_backends.dask.settings import DaskConfig, refuse_public
from drillyard_backends.sessions import Sessions, default_runtime


@translating()
class DaskBackend:
    """Rents workers of a Dask cluster.

    Args:
        clock: Clock for the timestamps of leases.
        **settings: See ``DaskConfig``.

    Raises:
        ConfigError: Unknown or impossible settings.
    """

    kind = "dask"
    traits: ClassVar[frozenset[Trait]] = frozenset()
    Config = DaskConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Json) -> None:
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
        self._unanswered_since: dict[str, float] = {}
        if self.config.address is not None:
            self.traits = self.traits | {Trait.SHARED}  # type: ignore[misc]

    def delays(self) -> Delays:
        """A cluster's processes take time to start, in addition to the workers' setup."""
        return Delays(setup_s=30.0)

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Checks Dask, and address, versions and workers of a cluster to join; changes nothing."""
        if importlib.util.find_spec("distributed") is None:
            return [problem("dask", "Dask is not installed here", install("dask"))]
        if self.config.address is None:
            return self._check_here()
        self._refuse_public()
        try:
            scheduler = self._joined()
            findings = versions.look(scheduler)
            workers = scheduler.workers()
        except InfrastructureError as error:
            return [
                problem("dask", str(error), error.hint or "start the cluster", infrastructure=True)
            ]
        threads = sum(int(w["nthreads"]) for w in workers.values())
        findings.append(
            passed("dask", f"{len(workers)} workers, {threads} threads at {self.config.address}")
            if workers
            else warning(
                "dask",
                f"no workers at {self.config.address}",
                "start workers: dask worker ADDRESS",
            )
        )
        if order is not None and order.gpus and not worker_proxies.able(order, workers):
            findings.append(
                problem(
                    "resources.gpus",
                    f"no Dask worker declares {order.gpus} of the resource GPU",
                    f"dask worker ADDRESS --resources GPU={order.gpus}",
                )
            )
        return findings

    def provision(self, order: Order) -> Lease:
        """Starts the cluster of a lease, or opens its worker proxies on the joined cluster."""
        if self.config.address is None:
            return self._sessions.provision(order)
        self._refuse_public()
        scheduler = self._joined()
        self._open_more(scheduler, order, order.workers)
        return self._joined_lease(order, self._clock.now())

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Returns ALIVE while the cluster or a worker proxy runs, or a worker has the ticket."""
        if "address" not in lease.provider:
            alive = self._sessions.probe(lease)
            if alive is not Liveness.ALIVE or ticket_id is None:
                return alive
        scheduler = self._scheduler(lease)
        if scheduler is None:
            return Liveness.PENDING
        try:
            if ticket_id is not None:
                return self._holding(lease, ticket_id, scheduler)
            alive = worker_proxies.seen(scheduler, lease.lease_id).liveness
            if alive is Liveness.GONE and not scheduler.workers():
                return Liveness.PENDING
            return alive
        except InfrastructureError:
            return Liveness.UNKNOWN

    def _holding(self, lease: Lease, ticket: str, scheduler: SchedulerAddress) -> Liveness:
        """Asks for the worker that claimed a ticket; before a claim, for the task.

        The ticket may have been sent again before its claim was seen. Then a second agent has it,
        which says nothing about the first.
        """
        worker = holder_of(lease, ticket)
        alive = None if worker is None else worker_proxies.alive(scheduler, worker)
        if alive is not None:
            return alive
        if self._pusher(lease).holds(ticket):
            return Liveness.PENDING
        return worker_proxies.holding(scheduler, lease.lease_id, ticket)

    def launch(self, lease: Lease, ticket_id: str) -> JsonObject:
        """Pushes one ticket as a task with its own key, unless the scheduler has it."""
        return self._pusher(lease).push(ticket_id)

    def tend(self, lease: Lease, workers: int) -> int:
        """Opens worker proxies on new workers; gives up a cluster that stays without workers.

        Raises:
            WorkerLost: There is no answer, or no worker, for longer than the settings allow.
        """
        scheduler = self._scheduler(lease)
        if scheduler is None:  # its scheduler is about to start
            return workers
        try:
            capacity = self._open_more(scheduler, lease.order, workers)
            self._pusher(lease).pump()
            trouble = (
                "" if capacity else f"the cluster at {scheduler.address} has no suitable worker"
            )
        except UserError:
            raise
        except InfrastructureError as error:
            capacity, trouble = workers, str(error)
        if not trouble:
            self._unanswered_since.pop(lease.lease_id, None)
            return capacity
        now = self._clock.monotonic()
        since = self._unanswered_since.setdefault(lease.lease_id, now)
        if now - since > self.config.no_workers_timeout_s:
            raise WorkerLost(
                f"{trouble}, for {self.config.no_workers_timeout_s:g} s",
                hint="start workers, or raise no_workers_timeout_s of backends.dask; then run the "
                "same command again",
            )
        return workers

    def logs(
        self, lease: Lease, handle: JsonObject | None = None, since: int = 0
    ) -> Iterator[str]:
        """Yields the log of a cluster that was started here, and the logs of its agents."""
        lines: list[str] = []
        if "address" not in lease.provider:
            lines += self._sessions.logs(lease)
        scheduler = self._scheduler(lease)
        if scheduler is not None:
            lines += worker_proxies.logs(scheduler, lease.lease_id)
        yield from lines[since:]

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Cancels a ticket that no worker has begun; a worker that has reads the mailbox."""
        if self._scheduler(lease) is not None:
            with contextlib.suppress(InfrastructureError):
                self._pusher(lease).cancel(ticket_id)

    def teardown(self, lease: Lease) -> None:
        """Ends the cluster; on a joined cluster, cancels the tasks and ends the worker proxies."""
        if "address" not in lease.provider:
            if (scheduler_here := self._scheduler(lease)) is not None:
                scheduler_here.forget()
            self._sessions.teardown(lease)
            # Without a record of a program, it may have been opened on the cluster to join.
            if lease.provider or self.config.address is None:
                self._pushers.pop(lease.lease_id, None)
                return
        scheduler = self._scheduler(lease) or self._joined()
        tickets = _tickets(lease)
        if tickets:
            self._pusher(lease).cancel_all(tickets)
        worker_proxies.close(scheduler, lease.lease_id)
        self._pushers.pop(lease.lease_id, None)

    def leases(self) -> Iterator[Lease]:
        """Yields the clusters that this user started here, and the leases on the joined cluster.

        Raises:
            InfrastructureError: The scheduler or a worker does not answer, so the leases are
                unknown.
        """
        yield from self._sessions.leases()
        if self.config.address is None:
            return
        orders: dict[str, Order] = {}
        for proxies in worker_proxies.living(self._joined()).values():
            for proxy in proxies:
                order = Order.model_validate(proxy["order"])
                orders.setdefault(order.lease_id, order)
        for _, order in sorted(orders.items()):
            yield self._joined_lease(order, self._clock.now())

    def estimate(self, order: Order) -> Cost:
        """Returns a cost of zero; the prices of a cluster class are unknown."""
        if self.config.cluster is not None:
            return Cost(note=f"the price of {self.config.cluster} is unknown")
        return Cost(note="your own machine" if self.config.address is None else "your own cluster")

    # -- inside -------------------------------------------------------------------------------

    def _check_here(self) -> list[Finding]:
        place = self._sessions.runtime
        place = next(p for p in (place, *place.parents) if p.exists())
        free = shutil.disk_usage(place).free
        space = f"{free / 2**30:.1f} GiB free for a cluster's files in {place}"
        return [
            passed("dask", space)
            if free > 1e9
            else warning("dask", f"only {space}", "set runtime of backends.dask to a larger disk"),
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
        """Returns the command of the program that holds a cluster."""
        (folder / SETTINGS).write_text(self.config.model_dump_json(), encoding="utf-8")
        (folder / "scheduler.json").unlink(missing_ok=True)
        return [sys.executable, "-m", "drillyard_backends.dask.cluster", str(folder)]

    def _joined(self) -> SchedulerAddress:
        assert self.config.address is not None
        return self._at(self.config.address)

    def _at(self, address: str) -> SchedulerAddress:
        return SchedulerAddress(address, self.config.security, self.config.connect_timeout_s)

    def _joined_lease(self, order: Order, created_at: float) -> Lease:
        return Lease(
            lease_id=order.lease_id,
            backend=self.kind,
            order=order,
            provider={"address": self.config.address},
            created_at=created_at,
        )

    def _scheduler(self, lease: Lease) -> SchedulerAddress | None:
        """Returns the address of a lease's scheduler; None before it listens or after its end."""
        address = lease.provider.get("address")
        if address is not None:
            return self._at(str(address))
        return address_of(self._sessions.folder(lease.lease_id), self.config.connect_timeout_s)

    def _pusher(self, lease: Lease) -> Pusher:
        pusher = self._pushers.get(lease.lease_id)
        if pusher is None:
            scheduler = self._scheduler(lease)
            if scheduler is None:
                raise InfrastructureError(f"the scheduler of {lease.lease_id} has not started yet")
            # Workers without a ticket are for the hosts of copies.
            few = "address" in lease.provider or lease.order.hosts > 0
            limit = lease.order.workers if few else None
            pusher = self._pushers[lease.lease_id] = Pusher(scheduler, lease.order, limit)
        return pusher

    def _open_more(self, scheduler: SchedulerAddress, order: Order, runs: int) -> int:
        """Opens worker proxies until they have capacity for a number of runs.

        Returns:
            Number of runs that can work in parallel; 0 without a worker.

        Raises:
            InfrastructureError: The scheduler does not answer, or no worker does.
        """
        workers = worker_proxies.able(order, scheduler.workers())
        seen = worker_proxies.seen(scheduler, order.lease_id)
        capacity = sum(
            worker_proxies.slots(order, w) for a, w in workers.items() if a in seen.open
        )
        more = {}
        for address, worker in workers.items():
            if capacity >= runs:
                break
            if address not in seen.open and address not in seen.silent:
                more[address] = worker
                capacity += worker_proxies.slots(order, worker)
        if not capacity and seen.silent:
            raise InfrastructureError(
                f"Dask workers do not answer: {', '.join(sorted(seen.silent))}"
            )
        if self.config.address is not None:  # on a cluster of our own, its program opens them
            worker_proxies.open_on(scheduler, order, more)
        return min(capacity, runs)


def _tickets(lease: Lease) -> list[str]:
    """Returns the tickets of a lease's experiment; none if its mailbox cannot be read."""
    with contextlib.suppress(DrillyardError):
        return list(
            Mailbox(open_store(lease.order.store_url), lease.order.experiment).ticket_ids()
        )
    return []
