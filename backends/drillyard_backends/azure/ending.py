"""The end of a lease: its jobs are cancelled, and its own cluster is deleted.

Each function sends all its requests, even if one of them fails, and collects the errors.
"""

from __future__ import annotations

import contextlib
import logging

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError, DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard_backends.azure import clusters
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.jobs import Job, Jobs
from drillyard_backends.azure.known_clusters import KnownClusters
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

log = logging.getLogger(__name__)


def end_jobs(jobs: Jobs, order: Order, config: AzureConfig, failed: list[DrillyardError]) -> bool:
    """Cancels unfinished jobs.

    Args:
        jobs: The jobs of the lease.
        order: The order of the lease.
        config: The settings.
        failed: Receives the errors.

    Returns:
        True if a job may finish, so that its cluster must stay.
    """
    finishing = False
    living = [job for job in jobs.look(0.0) if not job.over]
    shared = clusters.runs_of_a_job(config, order) > 1
    done = finished_runs(order, shared=shared) if living else set()
    for job in living:
        if job.run in done and jobs.may_leave(job):
            finishing = True  # cancelled at its end, it would look as if it had failed
            continue
        try:
            jobs.cancel(job)
        except DrillyardError as error:
            failed.append(error)
        if jobs.hangs(job) and config.compute is not None:
            failed.append(does_not_end(job, config))
    return finishing


def end_cluster(
    service: Service,
    config: AzureConfig,
    lease_id: str,
    known: KnownClusters,
    failed: list[DrillyardError],
) -> None:
    """Deletes the lease's own cluster. It has the lease's name.

    Args:
        service: The workspace.
        config: The settings.
        lease_id: The lease.
        known: Is informed of what was deleted.
        failed: Receives the errors.
    """
    for name in sorted({lease_id, clusters.own_name(lease_id)}):
        try:
            # With a kept cluster there is usually none, and maybe no right to delete one.
            # Otherwise a new one may be reported as missing: delete it anyway.
            if config.compute is None or service.compute(name):
                service.delete_compute(name)
                known.deleted(name)
        except Missing:
            continue
        except Exists as error:
            # 409 while it is created, changed or deleted. The next call tries again.
            log.info("cluster %s cannot be deleted now: %s", name, error)
        except DrillyardError as error:
            failed.append(error)


def does_not_end(job: Job, config: AzureConfig) -> ControlPlaneError:
    """Returns the error for a job on a kept cluster that was cancelled long ago.

    Its node is billed until it ends; users report hours. The cluster may have jobs of others, so
    only its owner can decide to take its nodes away.
    """
    return ControlPlaneError(
        f"job {job.name} is {job.status} and does not end; its node on {config.compute} is "
        f"billed. If all jobs there are yours: az ml compute update --name {config.compute} "
        f"--resource-group {config.resource_group} --workspace-name {config.workspace} "
        "--max-instances 0",
        hint="run the same command or `drillyard reap` again",
    )


def finished_runs(order: Order, *, shared: bool) -> set[str]:
    """Returns finished runs; none if the mailbox cannot be read.

    Args:
        order: The order of a lease.
        shared: True if a job has several runs: then none counts before all have finished.
    """
    finished: dict[str, bool] = {}
    with contextlib.suppress(DrillyardError):
        mailbox = Mailbox(open_store(order.store_url), order.experiment)
        for state in ticket_states(mailbox).values():
            run = state.ticket.run
            finished[run] = finished.get(run, True) and state.status is Status.SUCCEEDED
    if shared and not all(finished.values()):
        return set()
    return {run for run, done in finished.items() if done}
