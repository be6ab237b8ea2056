"""Azure Machine Learning as a backend: a cluster that scales from zero, and a job for each run.

A lease is a cluster and the jobs with its tag. A named cluster is kept; a lease's own cluster
ends with it. Names and tags are computed from the order, so that a process that knows only the
JSON of a lease can find, repeat and end everything.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

from drillyard.backend import Cost, Delays, Egress, Lease, Liveness, Order, Trait
from drillyard.backend.translation import translating
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import (
    AccessDenied,
    DrillyardError,
    UserError,
)
from drillyard.findings import Finding
from drillyard.mailbox import open_store
from drillyard.mailbox.status import Cause
from drillyard.mailbox.store_check import check_store
from drillyard.mailbox.store_clock import StoreClock
from drillyard.runs import wheels
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.azure import (
    clusters,
    ending,
    environment,
    plan,
    prices,
    start,
    stopped_runs,
    unfinished,
)
from drillyard_backends.azure.capacity import Waiting
from drillyard_backends.azure.errors import Missing, translated
from drillyard_backends.azure.job_body import begun_tag, body, order_key
from drillyard_backends.azure.job_failures import JobFailures
from drillyard_backends.azure.jobs import Jobs, Patience
from drillyard_backends.azure.known_clusters import KnownClusters
from drillyard_backends.azure.lease_listing import is_idle, is_listed, listed_orders
from drillyard_backends.azure.machines import AzureMachines
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig, read_settings
from drillyard_backends.azure.store import BlobStore

SETUP_S = TEARDOWN_S = 600.0
_RARELY_S = 30.0


@translating(translated)
class AzureBackend(AzureMachines):
    """Runs jobs in an Azure ML workspace.

    Args:
        clock: Clock for timestamps and waiting.
        **settings: See ``AzureConfig``.

    Raises:
        ConfigError, ConfigErrors: Unknown, missing or impossible settings.
    """

    kind = "azure"
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.SPOT, Trait.PAID, Trait.JOBS})
    Config = AzureConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Json) -> None:
        self.config = read_settings(settings)
        self._clock = clock
        self._service = Service(self.config)
        self._jobs: dict[str, Jobs] = {}
        self._lock = threading.RLock()
        self._clusters = KnownClusters(self._service, clock)
        self._times: dict[str, StoreClock] = {}
        self._begun: dict[str, float] = {}
        self._waiting = Waiting(self.config, lambda name: clusters.words(self._service, name))
        self._endpoints: tuple[float, list[tuple[Order, float]]] | None = None

    @cached_property
    def _place(self) -> tuple[str, str]:
        """Account and container of the mailbox's store."""
        if self.config.account is not None and self.config.container is not None:
            return self.config.account, self.config.container
        return self._datastore

    @cached_property
    def _datastore(self) -> tuple[str, str]:
        try:
            return self._service.own_datastore()
        except Missing as error:
            raise UserError(
                f"there is no workspace {self.config.workspace!r} in resource group "
                f"{self.config.resource_group!r}: {error}",
                hint="az ml workspace list shows the workspaces",
            ) from None

    @classmethod
    def extra(cls) -> str:
        """See ``NeedsExtra``."""
        return "azure"

    def delays(self) -> Delays:
        """Returns the delays: a cluster starts in minutes; jobs and clusters end in minutes."""
        return Delays(
            setup_s=SETUP_S, teardown_s=TEARDOWN_S, listing_lag_s=self.config.listing_lag_s
        )

    def store_url(self) -> str:
        """Returns the store to use if the user names none: on the workspace's own datastore."""
        account, container = self._place
        return f"az://{account}/{container}" + (f"/{self.config.prefix}".rstrip("/"))

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Checks login, workspace, rights, size, quota, cluster, environment; changes nothing."""
        return plan.examine(self._service, self.config, order, self._clock)

    def estimate(self, order: Order) -> Cost:
        """Returns the hourly price of all nodes that may run."""
        return plan.estimate(self.config, order)

    def console(self, lease: Lease) -> str:
        """Returns the page of the workspace's jobs in Azure Machine Learning's studio."""
        c = self.config
        return (
            f"https://ml.azure.com/experiments?wsid=/subscriptions/{c.subscription_id}"
            f"/resourceGroups/{c.resource_group}/workspaces/{c.workspace}"
        )

    def egress(self) -> Egress:
        """See ``PricesEgress``."""
        return prices.EGRESS

    def prepare_store(self, url: str) -> None:
        """Creates the container of the mailbox unless it exists, and tries it once.

        Raises:
            UserError: No job can reach the store, or it has real folders.
            StoreUnavailable: The container does not exist and cannot be created or written to.
        """
        if not url.startswith("az://"):
            raise UserError(
                f"jobs on Azure cannot reach the store {url}",
                hint="leave out --store and DRILLYARD_STORE to use the workspace's own store",
            )
        store = BlobStore(url)
        store.make_container()
        check_store(store)
        store.check_flat()

    def provision(self, order: Order) -> Lease:
        """Ensures cluster and environment; puts order and wheel into the jobs' store."""
        environment.of_lease(self.config, order)  # refused before anything is created
        with self._lock:
            clusters.ensure(self._service, self.config, order, self._location, self._clock)
            try:
                environment.fix(self._service, self.config, order)
            except Missing as error:
                raise UserError(
                    f"there is no environment {self.config.environment!r}: {error}",
                    hint="backends.azure.environment names an existing one",
                ) from None
            wheels.send(order, self.config.target)
            start.send(order)
            store = open_store(order.store_url)
            if not store.put_if_absent(order_key(order), order.to_bytes()):
                store.put(order_key(order), order.to_bytes())
            self._clusters.forget()
            return self._lease(order, self._time(order))

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Returns the state of the cluster, or of the job whose worker has a ticket."""
        if ticket_id is not None:
            job = self._of(lease.order).holding(ticket_id)
            return Liveness.GONE if job is None else job.liveness
        return self._clusters.liveness(
            clusters.name_of(self.config, lease.order),
            self.config.compute is not None,
            lambda: self._time(lease.order) - lease.created_at,
            lambda: any(not job.over for job in self._of(lease.order).look()),
        )

    def lost_to(self, lease: Lease, ticket_id: str) -> Cause:
        """Returns why a ticket's job failed.

        A job whose low-priority node was preempted fails or starts again by itself: Microsoft's
        guide has said both, and users report both. The error of a failed job names the cause.
        """
        job = self._of(lease.order).holding(ticket_id)
        lost = self.config.low_priority and job is not None and self._failures.preempted(job)
        return Cause.PREEMPTION if lost else Cause.INFRASTRUCTURE

    def launch(self, lease: Lease, ticket_id: str) -> JsonObject | None:
        """Submits the job of a ticket unless one works on its run; None: later.

        Raises:
            RunFailed: The last job could not set up its worker; with its message.
            WorkerLost: The environment cannot be built.
            ControlPlaneError: The cluster is gone, being deleted or not ready.
        """
        name = clusters.name_of(self.config, lease.order)
        self._clusters.must_stay(name)
        jobs = self._of(lease.order)
        if clusters.runs_of_a_job(self.config, lease.order) > 1:
            stopped_runs.allow(lease.order, ticket_id)
        last = jobs.of(ticket_id, fresh_s=float("inf"))
        # On a full cluster it would be asked about at each look, for hours.
        if last and last.status == "Failed" and jobs.is_new(last) and not jobs.full():
            why = self._failures.refuse_hopeless(lease.order, last)
            jobs.tell(f"job {last.name} of {last.ticket} failed{f': {why}' if why else ''}")
        try:
            job = jobs.push(ticket_id)
        except AccessDenied:
            raise
        except (UserError, Missing) as error:
            self._clusters.forget()
            self._clusters.must_live(name, self.probe(lease), error)
            raise
        return None if job is None else {"job": job.name, "studio": job.url}

    def tend(self, lease: Lease, workers: int) -> int:
        """Gives up a cluster that gets no node for waiting jobs; replaces nothing, as Azure does.

        Raises:
            NoCapacity: Jobs have waited for a first node for longer than ``capacity_s``, or the
                kept cluster could not be created.
        """
        now, name = self._clock.monotonic(), clusters.name_of(self.config, lease.order)
        living = [job for job in self._of(lease.order).look() if not job.over]
        self._waiting.check_jobs(lease.lease_id, name, living, now)
        self._waiting.check_cluster(lease.lease_id, self._clusters.read(name), bool(living), now)
        return workers

    def reasons(self, lease: Lease) -> list[str]:
        """Returns why no node comes, which jobs were given up, and which do not end."""
        jobs, cluster = self._of(lease.order), None
        living = [job for job in jobs.look() if not job.over]
        if any(job.status == "Queued" for job in living):
            cluster = self._clusters.read(clusters.name_of(self.config, lease.order))
        now = self._clock.monotonic()
        return [
            *self._waiting.reasons(lease.lease_id, cluster, living, now),
            *jobs.news,
            *jobs.unending(),
        ]

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Cancels the job of a ticket's run; of a job with several runs, that run alone."""
        if clusters.runs_of_a_job(self.config, lease.order) > 1:
            stopped_runs.stop(lease.order, ticket_id)  # a cancelled job would end the others
            return
        jobs, run = self._of(lease.order), ticket_id.rpartition(".")[0]
        for job in jobs.look(0.0):
            if job.run == run and not job.over:
                jobs.cancel(job)

    def logs(
        self, lease: Lease, handle: JsonObject | None = None, since: int = 0
    ) -> Iterator[str]:
        """Yields the logs of a lease's jobs and image builds, or of one handle's job."""
        jobs = self._of(lease.order).look()
        if handle is not None:
            jobs = [job for job in jobs if job.name == handle.get("job")]
        lines = clusters.words(self._service, clusters.name_of(self.config, lease.order))
        for job in sorted(jobs, key=lambda j: j.name):
            lines.append(f"{job.name}: {job.status}")
            lines += [f"{job.name}: {line}" for line in self._failures.lines(job)]
        yield from lines[since:]

    def teardown(self, lease: Lease) -> None:
        """Cancels the lease's jobs, and deletes the lease's own cluster.

        Sends all requests, even if one of them fails.

        Raises:
            InfrastructureError: A request failed; try again.
        """
        failed: list[DrillyardError] = []
        finishing = False
        try:
            jobs = self._of(lease.order)
            finishing = ending.end_jobs(jobs, lease.order, self.config, failed)
        except DrillyardError as error:
            failed.append(error)
        if not finishing:
            ending.end_cluster(self._service, self.config, lease.lease_id, self._clusters, failed)
        if not lease.order.experiment:
            unfinished.end(self._service, lease.lease_id)
        self._clusters.forget()
        if failed:
            # A repeat helps against everything but a missing right.
            denied = (error for error in failed if isinstance(error, AccessDenied))
            raise next(denied, failed[0])

    def leases(self) -> Iterator[Lease]:
        """Yields the leases of all unfinished jobs and clusters of ours in the workspace."""
        orders = listed_orders(self._service)
        self._clusters.forget()  # this listing is newer
        for order, created_at in self._unfinished_endpoints():
            orders.setdefault(order.lease_id, (order, created_at))
        for order, created_at in orders.values():
            yield self._lease(order, created_at)

    def listed(self, lease: Lease) -> bool:
        """Returns whether a job, a cluster or an endpoint of a lease is there."""
        if any(order.lease_id == lease.lease_id for order, _ in self._unfinished_endpoints()):
            return True
        return is_listed(self._service, lease.lease_id, self._of(lease.order).look(0.0))

    def idle(self, lease: Lease) -> bool:
        """Returns whether a lease has neither an unfinished job nor a node of its own cluster."""
        return is_idle(self._service, lease.lease_id, self._of(lease.order).look(0.0))

    # -- inside -------------------------------------------------------------------------------

    def _unfinished_endpoints(self) -> list[tuple[Order, float]]:
        """Returns unfinished endpoints; cached, because teardowns read them often."""
        with self._lock:
            now = self._clock.monotonic()
            known = self._endpoints
            if known is None or known[1] or now - known[0] > _RARELY_S:
                known = self._endpoints = now, list(unfinished.listed(self._service))
            return known[1]

    def _lease(self, order: Order, created_at: float) -> Lease:
        provider: JsonObject = {
            "workspace": self._service.root,
            "compute": clusters.name_of(self.config, order),
        }
        return Lease(
            lease_id=order.lease_id,
            backend=self.kind,
            order=order,
            provider=provider,
            created_at=created_at,
        )

    def _of(self, order: Order) -> Jobs:
        with self._lock:
            if order.lease_id not in self._jobs:
                c = self.config
                self._jobs[order.lease_id] = Jobs(
                    self._service,
                    order,
                    lambda name, ticket: self._entity(order, name, ticket),
                    self._clock,
                    Patience(c.preparing_s, c.build_s),
                    clusters.runs_of_a_job(c, order),
                    lambda: self._stuck(order),
                    lambda: begun_tag(self._begun_at(order)),
                    lambda: self._larger(order),
                )
            return self._jobs[order.lease_id]

    def _larger(self, order: Order) -> bool:
        """Returns whether the cluster may have more nodes than the lease has ordered."""
        cluster = self._clusters.read(clusters.name_of(self.config, order))
        return cluster is not None and cluster.most > clusters.nodes(self.config, order)

    def _entity(self, order: Order, name: str, ticket: str) -> dict[str, object]:
        return body(self.config, order, self._service.root, name, ticket, self._begun_at(order))

    def _time(self, order: Order) -> float:
        """Returns the time by the clock that an order's deadline is written in: its store's."""
        with self._lock:
            if order.store_url not in self._times:
                self._times[order.store_url] = StoreClock(open_store(order.store_url), self._clock)
        return self._times[order.store_url].now()

    def _begun_at(self, order: Order) -> float:
        """Returns the start of the lease, which is the same for every driver."""
        if order.lease_id not in self._begun:
            stored = open_store(order.store_url).stat(order_key(order))
            if stored is None:
                return self._time(order)
            self._begun[order.lease_id] = stored.updated_at
        return self._begun[order.lease_id]

    def _stuck(self, order: Order) -> bool:
        """Returns whether the cluster has nodes, but none that a job can use."""
        cluster = self._clusters.read(clusters.name_of(self.config, order))
        return cluster is not None and 0 < cluster.nodes <= cluster.unready

    @cached_property
    def _failures(self) -> JobFailures:
        return JobFailures(
            self._service,
            self.config,
            lambda: self._datastore[0],
            lambda: self._location,
            self._clock,
        )

    @cached_property
    def _location(self) -> str:
        return str(self._service.workspace()["location"])
