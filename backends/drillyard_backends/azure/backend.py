"""Azure Machine Learning as a backend: a cluster that scales from zero, and a job for each run.

A lease is a cluster (a named one is kept, one of the lease's own goes with it) and the jobs that
carry its tag. Names and tags are computed from the order, so that everything is found, repeated
and ended by a process that knows nothing but the text of a lease.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

from drillyard.backend import Cost, Delays, Lease, Liveness, Order, Trait
from drillyard.backend.translation import translating
from drillyard.errors import (
    AccessDenied,
    ControlPlaneError,
    DrillyardError,
    RunFailed,
    UserError,
    WorkerLost,
)
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.canary import sing
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.azure import clusters, environment, naming, plan, start, unfinished
from drillyard_backends.azure.clusters import Cluster
from drillyard_backends.azure.errors import Exists, Missing, translated
from drillyard_backends.azure.job_body import body, order_key
from drillyard_backends.azure.jobs import Job, Jobs, Patience
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig, read_settings
from drillyard_backends.azure.store import BlobStore

log = logging.getLogger(__name__)
SETUP_S = TEARDOWN_S = 600.0
_PREEMPTED = re.compile(r"preemptionerror|pre-?empted", re.I)
_FRESH_S = 4.0
_RARELY_S = 30.0
SETTLED_S = 120.0
"""For so long a new cluster may be answered as missing; after that, missing is gone."""


@translating(translated)
class AzureBackend:
    """Runs jobs in an Azure ML workspace.

    Args:
        clock: For stamps and waiting.
        **settings: See ``AzureConfig``.

    Raises:
        ConfigError, ConfigErrors: Unknown, missing or impossible settings.
    """

    kind = "azure"
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.SPOT, Trait.PAID, Trait.JOBS})
    Config = AzureConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Any) -> None:
        self.config = read_settings(settings)
        self._clock = clock
        self._service = Service(self.config)
        self._jobs: dict[str, Jobs] = {}
        self._lock = threading.RLock()
        self._clusters: dict[str, tuple[float, Cluster | None]] = {}
        """Name -> when it was looked at, and what was there."""
        self._seen: set[str] = set()
        """Names of clusters that were there, or were deleted here: missing is gone."""
        self._begun: dict[str, float] = {}
        self._endpoints: tuple[float, list[tuple[Order, float]]] | None = None

    @cached_property
    def _place(self) -> tuple[str, str]:
        """Account and container of the mailbox."""
        if self.config.account is not None and self.config.container is not None:
            return self.config.account, self.config.container
        return self._datastore

    @cached_property
    def _datastore(self) -> tuple[str, str]:
        try:
            return self._service.datastore()
        except Missing as error:
            raise UserError(
                f"there is no workspace {self.config.workspace!r} in resource group "
                f"{self.config.resource_group!r}, or it has no datastore: {error}",
                hint="az ml workspace list shows what there is",
            ) from None

    @classmethod
    def extra(cls) -> str:
        """See ``NeedsExtra``."""
        return "azure"

    def delays(self) -> Delays:
        """A cluster takes minutes to be made; a cancelled job and a cluster as long to end."""
        return Delays(
            setup_s=SETUP_S, teardown_s=TEARDOWN_S, listing_lag_s=self.config.listing_lag_s
        )

    def store_url(self) -> str:
        """The mailbox where none was chosen: on the workspace's own datastore."""
        account, container = self._place
        return f"az://{account}/{container}" + (f"/{self.config.prefix}".rstrip("/"))

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Login, workspace, rights, size, quota, cluster, environment; changes nothing."""
        return plan.examine(self._service, self.config, order, self._clock)

    def estimate(self, order: Order) -> Cost:
        """Price an hour with every node that may run."""
        return plan.estimate(self.config, order)

    def console(self, lease: Lease) -> str:
        """The workspace's jobs in Azure Machine Learning's studio."""
        c = self.config
        return (
            f"https://ml.azure.com/experiments?wsid=/subscriptions/{c.subscription_id}"
            f"/resourceGroups/{c.resource_group}/workspaces/{c.workspace}"
        )

    def prepare_store(self, url: str) -> None:
        """Make the container of the mailbox unless it is there, and try it once.

        Raises:
            UserError: A store that no job reaches, or that has folders of its own.
            StoreUnavailable: The container is not there and cannot be made or written to.
        """
        if not url.startswith("az://"):
            raise UserError(
                f"jobs on Azure cannot reach the store {url}",
                hint="leave --store and DRILLYARD_STORE out: the workspace's own is used then",
            )
        store = BlobStore(url)
        store.make_container()
        sing(store)
        store.check_flat()

    def provision(self, order: Order) -> Lease:
        """Ensure cluster and environment; leave order and wheel where the jobs read them."""
        environment.named(self.config, order)  # refused before anything is made
        with self._lock:
            clusters.ensure(self._service, self.config, order, self._location)
            try:
                environment.ensure(self._service, self.config, order)
            except Missing as error:
                raise UserError(
                    f"there is no environment {self.config.environment!r}: {error}",
                    hint="backends.azure.environment names an existing one",
                ) from None
            start.send(order)
            store = open_store(order.store_url)
            if not store.put_if_absent(order_key(order), order.to_bytes()):
                store.put(order_key(order), order.to_bytes())
            self._clusters.clear()
            return self._lease(order, self._clock.now())

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Of the cluster; of a ticket: of the job that has its run."""
        if ticket_id is not None:
            job = self._of(lease.order).of(ticket_id)
            return Liveness.GONE if job is None else job.liveness
        name = clusters.name_of(self.config, lease.order)
        found = self._cluster(name)
        if found is None:
            return self._without(name, lease)
        if found.state in clusters.READY:
            return Liveness.ALIVE
        if found.state == "deleting":
            return Liveness.UNKNOWN  # it takes minutes; what runs on it may run until then
        if found.state in clusters.BROKEN:
            # A change failed, which says nothing of the jobs that are on it.
            return self._broken(lease)
        return Liveness.PENDING

    def _cluster(self, name: str, fresh_s: float = _FRESH_S) -> Cluster | None:
        """What is known of a cluster, at most so old."""
        with self._lock:
            now = self._clock.monotonic()
            known = self._clusters.get(name)
            if known is None or now - known[0] > fresh_s:
                known = self._clusters[name] = now, clusters.find(self._service, name)
                if known[1] is not None:
                    self._seen.add(name)
            return known[1]

    def _without(self, name: str, lease: Lease) -> Liveness:
        """No cluster of that name is found: a new one may be answered so for a while."""
        young = self._clock.now() - lease.created_at < SETTLED_S
        if young and name not in self._seen:
            return Liveness.UNKNOWN
        listed = any(one.get("name") == name for one in self._service.computes())
        return Liveness.UNKNOWN if listed else Liveness.GONE

    def _broken(self, lease: Lease) -> Liveness:
        if self.config.compute is not None:
            return Liveness.UNKNOWN  # it is not ours to replace, and `plan` refuses it
        at_work = any(not job.over for job in self._of(lease.order).look())
        return Liveness.UNKNOWN if at_work else Liveness.GONE

    def lost_to(self, lease: Lease, ticket_id: str) -> Cause:
        """A job whose low-priority node was taken away fails, or begins again by itself.

        Microsoft's guide has said both, and people report both; a job that fails says so.
        """
        job = self._of(lease.order).of(ticket_id)
        lost = self.config.low_priority and job is not None and job.status == "Failed"
        if lost and job is not None and _PREEMPTED.search(self._why(job)):
            return Cause.PREEMPTION
        return Cause.INFRASTRUCTURE

    def launch(self, lease: Lease, ticket_id: str) -> dict[str, Any]:
        """Submit the job of a ticket, unless one is at work on its run.

        Raises:
            RunFailed: The last one could not set up its worker; with what it said.
            WorkerLost: The environment cannot be built.
            ControlPlaneError: The cluster is gone, as ``probe`` says from now on.
        """
        jobs = self._of(lease.order)
        last = jobs.of(ticket_id, fresh_s=float("inf"))
        if last is not None and last.status == "Failed":
            self._refuse_hopeless(lease.order, last)
        try:
            job = jobs.push(ticket_id)
        except AccessDenied:
            raise
        except (UserError, Missing) as error:
            # Azure calls it a mistake of ours when a cluster went after the last look at it.
            with self._lock:
                self._clusters.clear()
            if self.probe(lease) is Liveness.GONE:
                raise ControlPlaneError(f"submit a job: {lease.lease_id} is gone") from error
            raise
        return {"job": job.name, "studio": job.url}

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Cancel the jobs that were made for a ticket."""
        jobs = self._of(lease.order)
        for job in jobs.look(0.0):
            if job.ticket == ticket_id and not job.over:
                jobs.cancel(job)

    def logs(
        self, lease: Lease, handle: dict[str, Any] | None = None, since: int = 0
    ) -> Iterator[str]:
        """What Azure ML keeps of a lease's jobs, of image builds too; of a handle's alone."""
        jobs = self._of(lease.order).look()
        if handle is not None:
            jobs = [job for job in jobs if job.name == handle.get("job")]
        lines = clusters.words(self._service, clusters.name_of(self.config, lease.order))
        for job in sorted(jobs, key=lambda j: j.name):
            lines.append(f"{job.name}: {job.status}")
            lines += [f"{job.name}: {line}" for line in self._kept(job)]
        yield from lines[since:]

    def teardown(self, lease: Lease) -> None:
        """Cancel the lease's jobs, and delete the cluster that is its own.

        Everything is asked for, whatever one of the answers is.

        Raises:
            InfrastructureError: Something was not taken; ask again.
        """
        failed: list[DrillyardError] = []
        leaving = False
        try:
            leaving = self._end_jobs(lease, failed)
        except DrillyardError as error:
            failed.append(error)
        if not leaving:
            self._end_cluster(lease, failed)
        if not lease.order.experiment:
            unfinished.end(self._service, lease.lease_id)
        with self._lock:
            self._clusters.clear()
        if failed:
            # Asking again helps against anything but a missing right.
            raise next((one for one in failed if isinstance(one, AccessDenied)), failed[0])

    def _end_jobs(self, lease: Lease, failed: list[DrillyardError]) -> bool:
        """Cancel what is not over; True when a job is left alone, and so must be its cluster."""
        leaving = False
        jobs = self._of(lease.order)
        living = [job for job in jobs.look(0.0) if not job.over]
        done = self._done(lease.order) if living else set()
        for job in living:
            if job.run in done and jobs.may_leave(job):
                leaving = True  # cancelled at its end, it would look as if it had failed
                continue
            try:
                jobs.cancel(job)
            except DrillyardError as error:
                failed.append(error)
        return leaving

    def _end_cluster(self, lease: Lease, failed: list[DrillyardError]) -> None:
        """Delete the cluster that is the lease's own: it has the lease's name, whoever looks."""
        for name in sorted({lease.lease_id, clusters.own_name(lease.lease_id)}):
            try:
                # Where clusters are kept there is usually none, and maybe no right to delete one.
                # Where they are not, a new one may still be answered as missing: ask all the same.
                if self.config.compute is None or self._service.compute(name):
                    self._service.delete_compute(name)
                    self._seen.add(name)
            except Missing:
                continue
            except Exists as error:
                # 409 while it is made, changed or deleted: it is listed, so it is asked for again.
                log.info("cluster %s cannot be deleted now: %s", name, error)
            except DrillyardError as error:
                failed.append(error)

    def _done(self, order: Order) -> set[str]:
        """Runs with nothing left to do; of wide jobs, none before all are done."""
        found: dict[str, bool] = {}
        with contextlib.suppress(DrillyardError):
            for state in ticket_states(
                Mailbox(open_store(order.store_url), order.experiment)
            ).values():
                run = state.ticket.run
                found[run] = found.get(run, True) and state.status is Status.SUCCEEDED
        together = clusters.runs_of_a_job(self.config, order) > 1
        return (
            set() if together and not all(found.values()) else {r for r, d in found.items() if d}
        )

    def leases(self) -> Iterator[Lease]:
        """Everything of ours in the workspace: jobs that are not over, clusters of leases."""
        found: dict[str, Lease] = {}
        there = [Cluster.of(one) for one in self._service.computes()]
        jobs = [Job.of(one) for one in self._service.jobs(naming.MARK)]
        with self._lock:
            self._clusters.clear()  # this listing is newer
        things = [(one.tags, one.created_at) for one in there]
        things += [(dict(one.tags or {}), one.created_at) for one in jobs if not one.over]
        for tags, made_at in things:
            order = naming.outline(tags)
            if order is not None and order.lease_id not in found:
                found[order.lease_id] = self._lease(order, made_at)
        for one in there:
            # Named after a lease, and without its tags: who made it is known all the same.
            lease_id = clusters.lease_of(one.name)
            if lease_id is not None and lease_id not in found:
                over_at = one.created_at + plan.LONGEST_S  # no job of it can live then
                order = Order(lease_id=lease_id, experiment="", store_url="", deadline=over_at)
                found[lease_id] = self._lease(order, one.created_at)
        for order, made_at in self._half_made():
            found.setdefault(order.lease_id, self._lease(order, made_at))
        yield from found.values()

    # -- inside -------------------------------------------------------------------------------

    def _half_made(self) -> list[tuple[Order, float]]:
        """Endpoints that are being made; a teardown looks often, and they are rare."""
        with self._lock:
            now = self._clock.monotonic()
            if (
                self._endpoints is None
                or self._endpoints[1]
                or now - self._endpoints[0] > _RARELY_S
            ):
                self._endpoints = now, list(unfinished.listed(self._service))
            return self._endpoints[1]

    def _lease(self, order: Order, created_at: float) -> Lease:
        provider = {
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
                )
            return self._jobs[order.lease_id]

    def _entity(self, order: Order, name: str, ticket: str) -> dict[str, Any]:
        root = self._service.root
        return body(self.config, order, root, name, ticket, self._begun_at(order))

    def _begun_at(self, order: Order) -> float:
        """When the lease began: every driver of it reads the same."""
        if order.lease_id not in self._begun:
            found = open_store(order.store_url).stat(order_key(order))
            if found is None:
                return self._clock.now()
            self._begun[order.lease_id] = found.updated_at
        return self._begun[order.lease_id]

    def _stuck(self, order: Order) -> bool:
        """Whether the cluster has nodes, and none that a job can use."""
        found = self._cluster(clusters.name_of(self.config, order))
        return found is not None and 0 < found.nodes <= found.unready

    def _refuse_hopeless(self, order: Order, job: Job) -> None:
        """Another job would fail as this one did: say why instead."""
        mailbox = Mailbox(open_store(order.store_url), order.experiment)
        for worker in mailbox.workers():
            if worker.host.startswith(job.name) and worker.state == "failed":
                raise RunFailed(f"the worker of {job.name} could not be set up: {worker.message}")
        message = self._why(job)
        log.warning("job %s failed%s", job.name, f": {message}" if message else "")
        if "image build" in message.lower():
            raise WorkerLost(
                f"the environment {environment.named(self.config, order)} could not be built: "
                f"{message}",
                hint=f"`drillyard logs {order.experiment}` shows the build; mend image, conda or "
                "Dockerfile, then run the same command again",
            )
        why = start.refusal(self._kept(job))
        if why is not None:
            raise WorkerLost(
                f"{job.name} could not start its worker: {why}",
                hint=f"environment {environment.named(self.config, order)}: what it must have is "
                "in deployments/azure/environment",
            )

    def _why(self, job: Job) -> str:
        """What the service says of a failed job, as far as it does now."""
        with contextlib.suppress(DrillyardError, Missing):
            return ": ".join(
                part for part in self._service.trouble(job.name, self._location) if part
            )
        return ""

    @cached_property
    def _location(self) -> str:
        return str(self._service.workspace()["location"])

    @cached_property
    def _printed(self) -> tuple[str, str]:
        """Account and container of what jobs print; named after the workspace on some of them."""
        try:
            return self._service.datastore("workspaceartifactstore")
        except Missing:
            return self._datastore[0], "azureml"

    def _kept(self, job: Job) -> list[str]:
        """The lines that Azure ML keeps of a job, as far as they can be read now."""
        lines: list[str] = []
        with contextlib.suppress(DrillyardError):
            account, container = self._printed
            store = BlobStore(f"az://{account}/{container}/ExperimentRun/dcid.{job.name}")
            for key in store.keys(""):
                if key.endswith((".txt", ".log")):
                    lines += store.get(key).decode("utf-8", "replace").splitlines()
        return lines
