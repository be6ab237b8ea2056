"""``drillyard schedule``: runs an experiment file of one's own at set times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import FileArgument, JsonOption, print_json

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse


def schedule(
    file: FileArgument,
    cron: Annotated[
        str | None,
        typer.Option("--cron", help='Times, as cron writes them: "0 3 * * *" is each night.'),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", help="Time zone of the times: Europe/Berlin.")
    ] = "UTC",
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Name of each experiment; {date} and {time} are those of the planned start. "
            "Default: the file's name with both, so that each one trains anew.",
        ),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Delete the file's schedule.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment file at set times; needs `drillyard deploy` and a worker of Prefect.

    You can repeat the command: the file has one schedule, and the last times count.
    """
    from drillyard.errors import ConfigError
    from drillyard.spec.load import load
    from drillyard_flows.prefect_api import connected

    if (cron is None) == (not off):
        raise ConfigError(
            "give times, or --off",
            file="command line",
            field="--cron",
            value=cron,
            allowed="one of --cron and --off",
            hint='drillyard schedule FILE --cron "0 3 * * *"',
        )
    spec = load(file).spec
    flow = "experiment" if spec.study is None else "study"
    given = name or f"{spec.name}-{{date}}-{{time}}"
    parameters: dict[str, str] = {"file": str(Path(file).resolve()), "name": given}
    with connected() as client:
        deployment = _deployment(client, flow)
        done = _set(client, deployment, spec.name, cron, timezone, parameters)
    if as_json:
        print_json({"deployment": f"{flow}/nightly", "slug": spec.name, "what": done})
        return
    when = "" if off else f": {cron} ({timezone}), as {given}"
    typer.echo(f"{done}{when}")


def _deployment(client: SyncPrefectClient, flow: str) -> DeploymentResponse:
    from prefect.exceptions import ObjectNotFound

    from drillyard.errors import NotFound

    try:
        return client.read_deployment_by_name(f"{flow}/nightly")
    except ObjectNotFound:
        raise NotFound(
            f"the server has no deployment {flow}/nightly", hint="run `drillyard deploy` first"
        ) from None


def _set(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    slug: str,
    cron: str | None,
    timezone: str,
    parameters: dict[str, str],
) -> str:
    """Make a deployment have exactly one schedule of a slug, or none; returns what was done."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from pydantic import ValidationError

    from drillyard.errors import ConfigError

    wanted = None
    if cron is not None:
        times = {"cron": cron, "timezone": timezone}
        try:
            wanted = DeploymentScheduleCreate.model_validate(
                {"schedule": times, "active": True, "slug": slug, "parameters": parameters}
            )
        except ValidationError as error:
            raise ConfigError(
                str(error.errors()[0]["msg"]),
                file="command line",
                field="--cron",
                value=f"{cron} ({timezone})",
                allowed="five fields of cron, and a time zone",
                hint='--cron "0 3 * * *" --timezone Europe/Berlin',
            ) from None
    found = [s for s in deployment.schedules if s.slug == slug]
    if wanted is not None and [_content(s) for s in found] == [_content(wanted)]:
        return "the schedule is up to date"
    for old in found:
        client.delete_deployment_schedule(deployment.id, old.id)
    if wanted is None:
        return "the schedule was deleted" if found else "there was no schedule"
    client.create_deployment_schedules(deployment.id, [wanted])
    return "the schedule was changed" if found else "the schedule was added"


def _content(schedule: DeploymentSchedule | DeploymentScheduleCreate) -> dict[str, object]:
    return schedule.model_dump(mode="json", include={"schedule", "active", "parameters"})
