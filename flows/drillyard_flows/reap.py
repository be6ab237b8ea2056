"""The flow ``reap``: deletes unused machines on a schedule, and reports what it cannot delete.

``drillyard reap`` does the same without Prefect. If deleting fails twice in a row, the flow sends
the event ``drillyard.lease.undeletable`` for automations. A flow run fails if something expired
still exists, so a failed or missing flow run can raise an alert too.
"""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event

from drillyard.errors import TeardownUnconfirmed
from drillyard.leases.reaper import Outcome, Report
from drillyard.leases.reaper import reap as end_expired
from drillyard.tracking import mirrors
from drillyard_flows import plain_errors
from drillyard_flows.pool.workload import report_reaped

UNDELETABLE = "drillyard.lease.undeletable"
FINISHED = "drillyard.reap.finished"
"""Sent after every run, whatever its result. An automation raises an alert if it is missing."""
DELETED = "drillyard.lease.reaped"


@flow(name="reap", flow_run_name="reap", retries=0)
def reap(
    backends: list[str] = [],  # noqa: B006  Prefect shows an empty list; it is never changed
    dry_run: bool = False,
    grace_minutes: float = 10.0,
) -> dict[str, object]:
    """Deletes drillyard's expired machines, found by label, and completes MLflow.

    Args:
        backends: Backends such as ``gcp/prod``; empty: every one that is configured here.
        dry_run: List only.
        grace_minutes: Minutes for which a useless lease is kept.

    Returns:
        ``{"deleted", "left", "failed", "problems"}``.

    Raises:
        TeardownUnconfirmed: An expired lease still exists, or a backend could not be listed.
    """
    plain_errors.install()
    log = get_run_logger()
    report = end_expired(backends or None, dry_run=dry_run, grace_s=grace_minutes * 60.0)
    for outcome in report.outcomes:
        log.info(
            "%s: %s, %s",
            outcome.lease.lease_id,
            outcome.judgement.verdict.value,
            outcome.judgement.reason,
        )
        if outcome.deleted:
            _emit(DELETED, outcome)
            report_reaped(outcome.lease.order.store_url, outcome.lease.order.experiment)
    for outcome in report.undeletable:
        _emit(UNDELETABLE, outcome)
    _show(report)
    for line in [] if dry_run else mirrors.catch_up():
        log.info(line)
    emit_event(
        event=FINISHED,
        resource={"prefect.resource.id": "drillyard.reaper", "prefect.resource.name": "reaper"},
        payload={"good": report.good, "leases": len(report.outcomes)},
    )
    if not report.good:
        raise TeardownUnconfirmed(_failure(report), hint="see the table of this flow run")
    return {
        "deleted": [o.lease.lease_id for o in report.outcomes if o.deleted],
        "left": [o.lease.lease_id for o in report.outcomes if o.deleted is None],
        "settled": report.settled,
    }


def _emit(event: str, outcome: Outcome) -> None:
    lease = outcome.lease
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": f"drillyard.lease.{lease.lease_id}",
            "prefect.resource.name": lease.lease_id,
            "drillyard.backend": lease.backend,
            "drillyard.experiment": lease.order.experiment,
        },
        payload={
            "reason": outcome.judgement.reason,
            "problem": outcome.problem,
            "failures": outcome.failures,
            "store": lease.order.store_url,
        },
    )


def _show(report: Report) -> None:
    rows = [
        {
            "lease": o.lease.lease_id,
            "backend": o.lease.backend,
            "experiment": o.lease.order.experiment,
            "verdict": o.judgement.verdict.value,
            "because": o.judgement.reason,
            "done": {None: "left alone", True: "deleted", False: f"NOT deleted: {o.problem}"}[
                o.deleted
            ],
        }
        for o in report.outcomes
    ]
    if rows:
        create_table_artifact(
            table=rows, key="drillyard-reap", description="Leases that the reaper found"
        )


def _failure(report: Report) -> str:
    failed = [f"{o.lease.lease_id}: {o.problem}" for o in report.outcomes if o.deleted is False]
    failed += [f"{backend} cannot be listed: {why}" for backend, why in report.problems.items()]
    return "; ".join(failed)
