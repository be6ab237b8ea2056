"""The schedules of experiment files on a Prefect server.

A schedule belongs to the deployment ``nightly`` of its flow, and has the name of its experiment as
its slug. Those that people added in Prefect's pages are listed, and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from drillyard.errors import NotFound
from drillyard_flows.deploying.parts import existing

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule

FLOWS = ("experiment", "study")
NAME = "nightly"


def put(client: SyncPrefectClient, flow: str, schedule: DeploymentScheduleCreate) -> str:
    """Makes a deployment have exactly this schedule of its slug; returns what was done.

    A schedule that is paused stays paused.

    Args:
        client: The server.
        flow: ``experiment`` or ``study``.
        schedule: The schedule.

    Raises:
        NotFound: The server has no such deployment.
    """
    name = f"{flow}/{NAME}"
    deployment = existing(client.read_deployment_by_name, name)
    if deployment is None:
        raise NotFound(f"the server has no deployment {name}", hint="run `drillyard deploy` first")
    before = [s for s in deployment.schedules if s.slug == schedule.slug]
    if before and not before[0].active:
        schedule = schedule.model_copy(update={"active": False})
    if [_content(s) for s in before] == [_content(schedule)]:
        return "the schedule is up to date"
    for old in before:
        client.delete_deployment_schedule(deployment.id, old.id)
    client.create_deployment_schedules(deployment.id, [schedule])
    return "the schedule was changed" if before else "the schedule was added"


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
                deployment, schedule.id, active=active, parameters=schedule.parameters
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
        named = _named(client, slug)
    except NotFound:
        return "there was no schedule"
    for deployment, schedule in named:
        client.delete_deployment_schedule(deployment, schedule.id)
    return "the schedule was deleted"


def listed(client: SyncPrefectClient) -> list[dict[str, object]]:
    """Returns every schedule of both flows, in the order of their next times.

    Args:
        client: The server.
    """
    rows = [_row(deployment, schedule) for deployment, _, schedule in _all(client)]
    return sorted(rows, key=lambda row: (not row["next"], str(row["next"]), str(row["schedule"])))


def _row(deployment: str, schedule: DeploymentSchedule) -> dict[str, object]:
    from drillyard_flows.deploying.times import next_of

    times = schedule.schedule.model_dump(mode="json")
    kind = next((k for k in ("cron", "interval", "rrule") if times.get(k) is not None), "")
    text = f"every {times[kind]:g} s" if kind == "interval" else str(times.get(kind, ""))
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


def _all(client: SyncPrefectClient) -> Iterator[tuple[str, UUID, DeploymentSchedule]]:
    """Yields name and id of the deployment of each schedule, and the schedule."""
    for flow in FLOWS:
        name = f"{flow}/{NAME}"
        deployment = existing(client.read_deployment_by_name, name)
        if deployment is not None:
            yield from ((name, deployment.id, schedule) for schedule in deployment.schedules)


def _named(client: SyncPrefectClient, slug: str) -> list[tuple[UUID, DeploymentSchedule]]:
    schedules = [(deployment, schedule) for _, deployment, schedule in _all(client)]
    named = [(deployment, schedule) for deployment, schedule in schedules if schedule.slug == slug]
    if not named:
        known = ", ".join(str(s.slug) for _, s in schedules if s.slug) or "none"
        raise NotFound(f"there is no schedule {slug!r}", hint=f"schedules: {known}")
    return named


def _content(schedule: DeploymentSchedule | DeploymentScheduleCreate) -> dict[str, object]:
    return schedule.model_dump(mode="json", include={"schedule", "active", "parameters"})
