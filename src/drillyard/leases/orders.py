"""Builds the order of a lease from an experiment."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from drillyard.backend import Order
from drillyard.backend.settings.experiment import settings_of
from drillyard.documents.json_types import Json
from drillyard.errors import DrillyardError
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.runs.parallelism import hosts, processes, together, workers
from drillyard.runs.parallelism import runs as listed_runs
from drillyard.runs.submit import open_workload
from drillyard.runs.workload import SpreadsRuns
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.engines import JAX, SBX
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.safe_names import lease_id

IDLE_S = 60.0


def order_of(
    spec: ExperimentSpec,
    *,
    lease: str,
    store_url: str,
    runs: int,
    settings: Mapping[str, Json],
    code: str | None = None,
) -> Order:
    """The order for an experiment.

    Args:
        spec: The experiment.
        lease: Id of the lease.
        store_url: As the workers reach it.
        runs: Number of open runs. The order never has more workers than that.
        settings: The backend's settings, with unresolved references to secrets.
        code: sha256 of the code bundle.
    """
    workload = open_workload(spec)
    return Order(
        lease_id=lease,
        experiment=spec.name,
        store_url=store_url,
        workers=max(1, min(workers(spec), processes(runs, spec))),
        threads=spec.resources.threads,
        gpus=max(spec.resources.gpus, spec.resources.device == "cuda"),
        jax=spec.learner is not None and spec.learner.engine in (JAX, SBX),
        idle_s=IDLE_S,
        code=code,
        requirements=list(spec.requirements),
        preload=workload.preload(spec),
        spread=workload.spread(spec) if isinstance(workload, SpreadsRuns) else 1,
        hosts=hosts(spec),
        together=together(spec),
        # All of them, so that a reaper elsewhere needs only the secrets.
        settings=dict(settings),
    )


def preview(spec: ExperimentSpec, store_url: str, clock: Clock = SYSTEM) -> Order:
    """The order that ``run`` would place now; nothing is created.

    Args:
        spec: The experiment.
        store_url: The mailbox's store; read if it exists.
        clock: For the deadline.
    """
    kind = spec.backend.partition("/")[0]
    lease = lease_id(store_url, spec.name, 1)
    with contextlib.suppress(DrillyardError):
        mailbox = Mailbox(open_store(store_url), spec.name)
        store_url = mailbox.store.url
        lease = Ledger(mailbox).next_lease()[1]
    order = order_of(
        spec,
        lease=lease,
        store_url=store_url,
        runs=listed_runs(spec) or workers(spec),
        settings=settings_of(spec, kind),
    )
    hours = spec.budget.max_hours
    deadline = None if hours is None else clock.now() + hours * 3600.0
    return order.model_copy(update={"deadline": deadline})
