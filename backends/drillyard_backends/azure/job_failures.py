"""Why jobs failed: their logs, the service's errors, and what makes another job hopeless."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from functools import cached_property

from drillyard.backend import Order
from drillyard.errors import DrillyardError, NoCapacity, RunFailed, WorkerLost
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import WorkerRecord
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.azure import environment, start
from drillyard_backends.azure.errors import Missing
from drillyard_backends.azure.jobs import Job, is_on
from drillyard_backends.azure.login import busy
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig
from drillyard_backends.azure.store import BlobStore
from drillyard_backends.last_words import HINT, alike

_QUOTA = re.compile(r"ExceedsCoreQuota|quota of \d+")
"""``JobNodeCountExceedsCoreQuota``: github.com/MicrosoftLearning/mslearn-dp100/issues/35."""
_PREEMPTED = re.compile(r"preemptionerror|pre-?empted", re.I)
_BUILD_FIXES = {
    "TasksOperationsNotAllowed": "this subscription may not build images in a registry: let a "
    "cluster build them (az ml workspace update --image-build-compute CLUSTER), or name an "
    "`image:` that you have built",
    "toomanyrequests": "the registry of the base image limits anonymous pulls: write a FROM of "
    "mcr.microsoft.com, or of your own registry",
}
"""What builders say that a correct Dockerfile does not change."""

APART_S = 300.0
"""Jobs that fail so shortly after each other may meet the same outage."""
log = logging.getLogger(__name__)


class JobFailures:
    """Explains the failures of a workspace's jobs.

    Args:
        service: Sends the requests.
        config: The settings.
        account: Returns the storage account of the workspace.
        location: Returns the region of the workspace.
        clock: For the time between two failures.
    """

    def __init__(
        self,
        service: Service,
        config: AzureConfig,
        account: Callable[[], str],
        location: Callable[[], str],
        clock: Clock = SYSTEM,
    ) -> None:
        self._service = service
        self._config = config
        self._account = account
        self._location = location
        self._clock = clock
        self._not_let_in: set[str] = set()
        """Jobs whose identity the store refused."""
        self._ended: dict[tuple[str, str], float] = {}
        """Lease and last words of jobs that did no work -> when the first one was seen."""
        self._failed_at: dict[str, float] = {}
        """Job that did no work -> when that was first seen."""

    def refuse_hopeless(self, order: Order, job: Job) -> str:
        """Raises the reason of a failed job if another job would fail in the same way.

        Returns:
            Why it failed, if another one may succeed; empty if Azure does not say it.

        Raises:
            RunFailed: The job could not set up its worker.
            NoCapacity: The quota has no room for its nodes.
            WorkerLost: The environment cannot be built, or cannot start the worker, or the store
                refused the identity of a second job: one refusal may be a node's network; or two
                jobs ended with the same last words before they did any work.
        """
        mailbox = Mailbox(open_store(order.store_url), order.experiment)
        everyone = mailbox.workers()
        workers = [worker for worker in everyone if is_on(job.name, worker.host)]
        for worker in workers:
            if worker.state == "failed":
                raise RunFailed(f"the worker of {job.name} could not be set up: {worker.message}")
        message = self.reason(job)
        log.warning("job %s failed%s", job.name, f": {message}" if message else "")
        name = environment.of_lease(self._config, order)
        if _QUOTA.search(message):
            raise NoCapacity(
                f"Azure refused {job.name}: {message}",
                hint="ask for a higher quota: https://ml.azure.com/quota",
            )
        if "image build" in message.lower():
            said = " ".join([message, *self.lines(job)])
            fixes = (fix for word, fix in _BUILD_FIXES.items() if word in said)
            usual = "correct image, conda or Dockerfile, then run the same command again"
            raise WorkerLost(
                f"the environment {name} could not be built: {message}",
                hint=f"`drillyard logs {order.experiment}` shows the build; {next(fixes, usual)}",
            )
        lines = self.lines(job)
        refusal = start.refusal(lines)
        if refusal is not None:
            raise WorkerLost(
                f"{job.name} could not start its worker: {refusal}",
                hint=f"environment {name}: deployments/azure/environment has what it needs",
            )
        # A job whose worker wrote to the store was let in, whatever its log says besides.
        refused = None if workers else start.not_let_in(lines)
        if refused is not None and (why := busy(lines)):
            return f"the sign-in of its node did not answer: {why}"
        if refused is not None:
            self._refuse_second(job, refused)
        # A worker that was ready shows that image and network are right.
        if not any(worker.ready_at for worker in everyone if worker.lease == order.lease_id):
            self._refuse_alike(order, job, [message, *lines], workers)
        return message or refused or ""

    def _refuse_alike(
        self, order: Order, job: Job, said: list[str], workers: list[WorkerRecord]
    ) -> None:
        """Raises what a second job of a lease has said that did no work and was not preempted."""
        if _PREEMPTED.search(said[0]):
            return
        said = [line.strip() for line in (*said, *(worker.message for worker in workers))]
        words = next(filter(None, reversed(said)), "")
        # It is asked about again for as long as its successor cannot be submitted.
        at = self._failed_at.setdefault(job.name, self._clock.monotonic())
        since = self._ended.setdefault((order.lease_id, alike(words)), at)
        if words and at - since >= APART_S:
            raise WorkerLost(
                f"two jobs ended in the same way before they did any work: {words}", hint=HINT
            )

    def _refuse_second(self, job: Job, why: str) -> None:
        self._not_let_in.add(job.name)
        if len(self._not_let_in) > 1:
            raise WorkerLost(
                f"the store refused the identity of {job.name}, and of a job before it: {why}",
                hint="give the cluster an identity with the role Storage Blob Data Contributor "
                "on the account; a new role takes up to an hour",
            )

    def preempted(self, job: Job) -> bool:
        """Returns whether a job failed because its low-priority node was taken back."""
        return job.status == "Failed" and _PREEMPTED.search(self.reason(job)) is not None

    def reason(self, job: Job) -> str:
        """Returns the service's error of a failed job; empty if it is not known yet."""
        with contextlib.suppress(DrillyardError, Missing):
            error = self._service.trouble(job.name, self._location())
            return ": ".join(part for part in error if part)
        return ""

    def lines(self, job: Job) -> list[str]:
        """Returns the log lines that Azure ML keeps of a job, as far as they can be read now."""
        lines: list[str] = []
        with contextlib.suppress(DrillyardError):
            account, container = self._logs
            store = BlobStore(f"az://{account}/{container}/ExperimentRun/dcid.{job.name}")
            for key in store.keys(""):
                if key.endswith((".txt", ".log")):
                    lines += store.get(key).decode("utf-8", "replace").splitlines()
        return lines

    @cached_property
    def _logs(self) -> tuple[str, str]:
        """Account and container of the jobs' output; some workspaces have a datastore for it."""
        try:
            return self._service.datastore("workspaceartifactstore")
        except Missing:
            return self._account(), "azureml"
