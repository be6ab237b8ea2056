"""Azure Machine Learning as a backend: a cluster that scales from zero, and a job for each run.

A lease is a cluster (a named one is kept, one of the lease's own goes with it) and the jobs that
carry its tag. Names and tags are computed from the order, so that everything is found, repeated
and ended by a process that knows nothing but the text of a lease.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

from drillyard.backend import Cost, Lease, Liveness, Order, Trait
from drillyard.errors import (
    ControlPlaneError,
    DrillyardError,
    RunFailed,
    UserError,
    WorkerLost,
)  # fmt: skip
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.canary import sing
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.azure import clusters, environment, naming, plan
from drillyard_backends.azure import job as program
from drillyard_backends.azure.errors import Missing, at_work
from drillyard_backends.azure.jobs import MARGIN_S, OVER, Job, Jobs
from drillyard_backends.azure.service import Service, word
from drillyard_backends.azure.settings import AzureConfig, read_settings
from drillyard_backends.azure.store import BlobStore

log = logging.getLogger(__name__)
ARTIFACTS = "azureml"
"""Container where Azure ML keeps what jobs print."""
_FRESH_S = 4.0


class AzureBackend:
    """Runs jobs in an Azure ML workspace.

    Args:
        clock: For stamps and waiting.
        **settings: See ``AzureConfig``.

    Raises:
        ConfigError, ConfigErrors: Unknown, missing or impossible settings.
    """

    kind = "azure"
    extra: ClassVar[str] = "azure"
    """Brings its packages."""
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.SPOT, Trait.PAID, Trait.JOBS})
    Config = AzureConfig
    teardown_s = 600.0
    """A job that was cancelled takes a minute or two to end, a cluster some more."""
    setup_s = 600.0
    """So may a cluster take to be made."""

    def __init__(self, clock: Clock = SYSTEM, **settings: Any) -> None:
        self.config = read_settings(settings)
        self._clock = clock
        self._service = Service(self.config)
        self._jobs: dict[str, Jobs] = {}
        self._lock = threading.RLock()
        self._states: dict[str, tuple[float, Liveness]] = {}

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

    @property
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
            UserError: A store that no job reaches.
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

    @at_work("rent")
    def provision(self, order: Order) -> Lease:
        """Ensure cluster and environment, and leave the order where the jobs read it."""
        environment.named(self.config, order)  # refused before anything is made
        with self._lock:
            clusters.ensure(self._service, self.config, order)
            try:
                environment.ensure(self._service, self.config, order)
            except Missing as error:
                raise UserError(
                    f"there is no environment {self.config.environment!r}: {error}",
                    hint="backends.azure.environment names an existing one",
                ) from None
            open_store(order.store_url).put(_order_key(order), order.to_bytes())
            self._states.pop(order.lease_id, None)
            return self._lease(order, self._clock.now())

    @at_work("look at the lease")
    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Of the cluster; of a ticket: of the job that has its run."""
        if ticket_id is not None:
            job = self._of(lease.order).of(ticket_id)
            return Liveness.GONE if job is None else job.liveness
        with self._lock:
            now = self._clock.monotonic()
            known = self._states.get(lease.lease_id)
            if known is None or now - known[0] > _FRESH_S:
                state = clusters.liveness(self._service, self.config, lease.order)
                known = self._states[lease.lease_id] = now, state
            return known[1]

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            self._states.pop(lease.lease_id, None)

    @at_work("submit a job")
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
        except UserError as error:
            # Azure calls it a mistake of ours when a cluster went after the last look at it.
            self._forget(lease)
            if self.probe(lease) is Liveness.GONE:
                raise ControlPlaneError(f"submit a job: {lease.lease_id} is gone") from error
            raise
        return {"job": job.name, "studio": job.url}

    @at_work("cancel a job")
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

    @at_work("give back")
    def teardown(self, lease: Lease) -> None:
        """Cancel the lease's jobs, and delete the cluster that is its own."""
        jobs = self._of(lease.order)
        for job in jobs.look(0.0):
            if not job.over:
                jobs.cancel(job)
        with contextlib.suppress(Missing):
            # Only one that was made for this lease has its name and its tag.
            found = self._service.compute(lease.lease_id)
            if (found.tags or {}).get(naming.LEASE_TAG) == lease.lease_id:
                self._service.delete_compute(lease.lease_id)
        with self._lock:
            self._jobs.pop(lease.lease_id, None)
            self._states.pop(lease.lease_id, None)

    def leases(self) -> Iterator[Lease]:
        """Everything of ours in the workspace: jobs that are not over, clusters of leases."""
        found: dict[str, Lease] = {}
        with at_work("list what is rented"):
            jobs = [one for one in self._service.jobs(naming.MARK) if word(one.status) not in OVER]
            things = [*self._service.computes(), *jobs]
        for one in things:
            order = naming.outline(dict(one.tags or {}))
            if order is not None and order.lease_id not in found:
                found[order.lease_id] = self._lease(order, _made_at(one))
        yield from found.values()

    # -- inside -------------------------------------------------------------------------------

    def _lease(self, order: Order, created_at: float) -> Lease:
        provider = {
            "workspace": self._service.root, "compute": clusters.name_of(self.config, order),
        }  # fmt: skip
        return Lease(
            lease_id=order.lease_id, backend=self.kind, order=order, provider=provider,
            created_at=created_at,
        )  # fmt: skip

    def _of(self, order: Order) -> Jobs:
        with self._lock:
            if order.lease_id not in self._jobs:
                self._jobs[order.lease_id] = Jobs(
                    self._service, order, lambda name, ticket: self._entity(order, name, ticket),
                    self._clock, self.config.preparing_s,
                    clusters.runs_of_a_job(self.config, order),
                )  # fmt: skip
            return self._jobs[order.lease_id]

    def _entity(self, order: Order, name: str, ticket: str) -> Any:
        from azure.ai.ml import PyTorchDistribution, command
        from azure.ai.ml.entities import JobResourceConfiguration

        variables = {
            program.STORE: order.store_url, program.ORDER_KEY: _order_key(order),
            program.TICKET: ticket, program.GRACE: f"{self.config.stop_grace_s:g}",
            program.LOW_PRIORITY: "1" if self.config.low_priority else "0",
            program.WIDTH: str(self.config.instance_count),
        }  # fmt: skip
        run = ticket.rpartition(".")[0]
        made = command(
            name=name, display_name=run, experiment_name=order.experiment,
            outputs=self._outputs(order, run),
            command="python -m drillyard_backends.azure.job",
            environment=environment.named(self.config, order),
            compute=clusters.name_of(self.config, order), environment_variables=variables,
            tags=naming.tags(order, self.config.tags, **{naming.TICKET_TAG: ticket}),
        )  # fmt: skip
        if self.config.instance_count > 1:
            # Without a distribution the command would be started on the first node alone.
            made.resources = JobResourceConfiguration(instance_count=self.config.instance_count)
            made.distribution = PyTorchDistribution(process_count_per_instance=1)
        if order.deadline is not None:
            left_s = order.deadline - self._clock.now() + MARGIN_S
            made.set_limits(timeout=max(60, int(left_s)))
        return made

    def _outputs(self, order: Order, run: str) -> dict[str, Any]:
        """``results`` of a job: the folder of its run, where the workspace can see it.

        It is named and not mounted: the worker writes there by itself.
        """
        from azure.ai.ml import Output

        if self.config.account is not None or clusters.runs_of_a_job(self.config, order) > 1:
            return {}
        folder = f"{self.config.prefix}/{order.experiment}/runs/{run}".lstrip("/")
        path = f"azureml://datastores/workspaceblobstore/paths/{folder}"
        return {"results": Output(type="uri_folder", path=path, mode="direct")}

    def _refuse_hopeless(self, order: Order, job: Job) -> None:
        """Another job would fail as this one did: say why instead."""
        mailbox = Mailbox(open_store(order.store_url), order.experiment)
        for worker in mailbox.workers():
            if worker.host.startswith(job.name) and worker.state == "failed":
                raise RunFailed(f"the worker of {job.name} could not be set up: {worker.message}")
        _, message = self._service.trouble(job.name, self._location)
        if "image build" in message.lower():
            raise WorkerLost(
                f"the environment {environment.named(self.config, order)} could not be built: "
                f"{message}",
                hint=f"`drillyard logs {order.experiment}` shows the build; mend image, conda or "
                "Dockerfile, then run the same command again",
            )

    @cached_property
    def _location(self) -> str:
        return str(self._service.workspace()["location"])

    def _kept(self, job: Job) -> list[str]:
        """The lines that Azure ML keeps of a job, as far as they can be read now."""
        lines: list[str] = []
        with contextlib.suppress(DrillyardError):
            account = self._datastore[0]
            store = BlobStore(f"az://{account}/{ARTIFACTS}/ExperimentRun/dcid.{job.name}")
            for key in store.keys(""):
                if key.endswith((".txt", ".log")):
                    lines += store.get(key).decode("utf-8", "replace").splitlines()
        return lines


def _order_key(order: Order) -> str:
    return f"{order.experiment}/leases/{order.lease_id}/order.json"


def _made_at(one: Any) -> float:
    made = getattr(getattr(one, "creation_context", None), "created_at", None)
    stamp = getattr(made or getattr(one, "created_on", None), "timestamp", None)
    return float(stamp()) if stamp is not None else 0.0
