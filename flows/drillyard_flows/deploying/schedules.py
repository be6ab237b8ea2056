"""The schedules of experiment files on a Prefect server.

A schedule belongs to the deployment ``nightly`` of its flow, and has the name of its experiment as
its slug. Those that people added in Prefect's pages are listed, and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from drillyard.errors import NotFound

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

FLOWS = ("experiment", "study")
NAME = "nightly"


def put(client: SyncPrefectClient, flow: str, wanted: DeploymentScheduleCreate) -> str:
    """Makes a deployment have exactly this schedule of its slug; returns what was done.

    A schedule that is paused stays paused.

    Args:
        client: The server.
        flow: ``experiment`` or ``study``.
        wanted: The schedule.

    Raises:
        NotFound: The server has no such deployment.
    """
    deployment = _deployment(client, flow)
    if deployment is None:
        raise NotFound(
            f"the server has no deployment {flow}/{NAME}", hint="run `drillyard deploy` first"
        )
    found = [s for s in deployment.schedules if s.slug == wanted.slug]
    if found and not found[0].active:
        wanted = wanted.model_copy(update={"active": False})
    if [_content(s) for s in found] == [_content(wanted)]:
        return "the schedule is up to date"
    for old in found:
        client.delete_deployment_schedule(deployment.id, old.id)
    client.create_deployment_schedules(deployment.id, [wanted])
    return "the schedule was changed" if found else "the schedule was added"


def switch(client: SyncPrefectClient, slug: str, *, active: bool) -> str:
    """Pauses or resumes a schedule; returns what was done.

    Args:
        client: The server.
        slug: Name of the schedule.
        active: Whether it should start flow runs.

    Raises:
        NotFound: There is no such schedule.
    """
    word = "resumed" if active else "paused"
    changed = False
    for deployment, schedule in _named(client, slug):
        if schedule.active is not active:
            # With its parameters: an update without them would forget the file.
            client.update_deployment_schedule(
                deployment.id, schedule.id, active=active, parameters=schedule.parameters
            )
            changed = True
    return f"the schedule was {word}" if changed else f"the schedule was {word} before"


def delete(client: SyncPrefectClient, slug: str) -> str:
    """Deletes a schedule; returns what was done.

    Args:
        client: The server.
        slug: Name of the schedule.
    """
    try:
        found = _named(client, slug)
    except NotFound:
        return "there was no schedule"
    for deployment, schedule in found:
        client.delete_deployment_schedule(deployment.id, schedule.id)
    return "the schedule was deleted"


def listed(client: SyncPrefectClient) -> list[dict[str, object]]:
    """Returns every schedule of both flows, in the order of their next times.

    Args:
        client: The server.
    """
    rows = [_row(deployment, schedule) for deployment, schedule in _all(client)]
    return sorted(rows, key=lambda row: (not row["next"], str(row["next"]), str(row["schedule"])))


def _row(deployment: str, schedule: DeploymentSchedule) -> dict[str, object]:
    from drillyard_flows.deploying.times import next_of

    times = schedule.schedule.model_dump(mode="json")
    own = next((k for k in ("cron", "interval", "rrule") if times.get(k) is not None), "")
    text = f"every {times[own]:g} s" if own == "interval" else str(times.get(own, ""))
    date = next_of(schedule.schedule) if schedule.active else None
    parameters = schedule.parameters or {}
    return {
        "schedule": schedule.slug,
        "deployment": deployment,
        "times": f"{text} ({times.get('timezone') or 'UTC'})",
        "state": "on" if schedule.active else "paused",
        "next": None if date is None else date.isoformat(timespec="minutes"),
        "file": parameters.get("file"),
        "name": parameters.get("name"),
        "adds": ", ".join(parameters.get("more") or []),
    }


def _deployment(client: SyncPrefectClient, flow: str) -> DeploymentResponse | None:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(f"{flow}/{NAME}")
    except ObjectNotFound:
        return None


def _all(client: SyncPrefectClient) -> Iterator[tuple[str, DeploymentSchedule]]:
    for flow in FLOWS:
        deployment = _deployment(client, flow)
        for schedule in deployment.schedules if deployment is not None else []:
            yield f"{flow}/{NAME}", schedule


def _named(
    client: SyncPrefectClient, slug: str
) -> list[tuple[DeploymentResponse, DeploymentSchedule]]:
    deployments = [d for flow in FLOWS if (d := _deployment(client, flow)) is not None]
    found = [(d, s) for d in deployments for s in d.schedules if s.slug == slug]
    if not found:
        known = ", ".join(str(s.slug) for _, s in _all(client) if s.slug) or "none"
        raise NotFound(f"there is no schedule {slug!r}", hint=f"schedules: {known}")
    return found


def _content(schedule: DeploymentSchedule | DeploymentScheduleCreate) -> dict[str, object]:
    return schedule.model_dump(mode="json", include={"schedule", "active", "parameters"})
