"""The flow ``reap``: ends what nobody needs any more, on a schedule; says so when it cannot.

``drillyard reap`` is the same without Prefect. Deleting failed twice in a row: the event
``drillyard.lease.undeletable``, for automations. The flow run fails whenever something that had
expired is still there, so that a run of it that fails, or is missing, can raise an alert as well.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event

from drillyard.errors import TeardownUnconfirmed
from drillyard.leases.reaper import Outcome, Report
from drillyard.leases.reaper import reap as end_expired
from drillyard_flows import plain_errors

UNDELETABLE = "drillyard.lease.undeletable"
FINISHED = "drillyard.reap.finished"
"""It looked, however that ended: an automation waits for it, and tells when it does not come."""
DELETED = "drillyard.lease.reaped"


@flow(name="reap", flow_run_name="reap", retries=0)
def reap(
    backends: list[str] = [],  # noqa: B006  Prefect shows it as an empty list; nobody writes to it
    dry_run: bool = False,
    grace_minutes: float = 10.0,
) -> dict[str, Any]:
    """End machines of ours that have expired, found by label.

    Args:
        backends: By text, ``gcp/prod``; empty: every one that is configured where this runs.
        dry_run: Only look.
        grace_minutes: How long a useless lease is left alone.

    Returns:
        ``{"deleted", "left", "failed", "problems"}``.

    Raises:
        TeardownUnconfirmed: Something expired is still there, or a backend could not be listed.
    """
    plain_errors.install()
    log = get_run_logger()
    report = end_expired(backends or None, dry_run=dry_run, grace_s=grace_minutes * 60.0)
    for one in report.outcomes:
        log.info(
            "%s: %s, %s", one.lease.lease_id, one.judgement.verdict.value, one.judgement.reason
        )
        if one.deleted:
            _emit(DELETED, one)
    for one in report.undeletable:
        _emit(UNDELETABLE, one)
    _show(report)
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


def _emit(event: str, one: Outcome) -> None:
    lease = one.lease
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": f"drillyard.lease.{lease.lease_id}",
            "prefect.resource.name": lease.lease_id,
            "drillyard.backend": lease.backend,
            "drillyard.experiment": lease.order.experiment,
        },
        payload={
            "reason": one.judgement.reason,
            "problem": one.problem,
            "failures": one.failures,
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
        create_table_artifact(table=rows, key="drillyard-reap", description="What the reaper saw")


def _failure(report: Report) -> str:
    failed = [f"{o.lease.lease_id}: {o.problem}" for o in report.outcomes if o.deleted is False]
    failed += [f"{backend} cannot be listed: {why}" for backend, why in report.problems.items()]
    return "; ".join(failed)
