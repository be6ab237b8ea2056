"""``drillyard deploy`` and ``undeploy``: register and remove drillyard's parts of Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, print_json
from drillyard_flows.deploying import scheduling

if TYPE_CHECKING:
    from uuid import UUID

    from drillyard.documents.json_types import JsonObject
    from drillyard_flows.deploying.parts import Part

FolderOption = Annotated[
    Path,
    typer.Option(
        "--folder",
        metavar="PATH",
        help="Folder on the worker's machine in which flow runs start. Forms can use paths "
        "relative to it.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to drillyard's command line.

    Args:
        app: The application.
    """
    app.command("deploy")(deploy)
    app.command("undeploy")(undeploy)
    app.command("schedule")(scheduling.schedule)


def deploy(
    folder: FolderOption = Path(),
    alerts: Annotated[
        str | None,
        typer.Option(
            "--alerts",
            metavar="URL",
            envvar="DRILLYARD_ALERTS",
            help="Webhook (Slack's, for example) for alerts, or env:NAME or file:PATH with "
            "its address. The server stores it as the block drillyard-alerts.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register forms, work pools, deployments, schedules and automations on the Prefect server.

    You can repeat the command: it creates nothing twice.
    """
    from drillyard_flows.deploying import alerts as telling
    from drillyard_flows.deploying.parts import NEW
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        block = telling.make(alerts) if alerts else telling.find(client)
        parts = _parts(folder.expanduser().resolve(), block)
        rows = [{**_row(part), "what": part.apply(client)} for part in parts]
    if as_json:
        print_json(rows)
        return
    new = [row for row in rows if row["what"] == NEW]
    for row in new:
        typer.echo(f"+ {row['kind']} {row['name']}")
    typer.echo(f"registered {len(rows)}, {len(new)} of them new")
    if not folder.expanduser().is_dir():
        typer.echo(
            f"{folder} does not exist on this machine; flow runs need it on the worker's machine"
        )
    if block is None:
        typer.echo("alerts are not sent yet; to send them: drillyard deploy --alerts https://…")


def undeploy(as_json: JsonOption = False) -> None:
    """Remove everything that `deploy` registered. Past runs and saved settings are kept."""
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        parts = reversed(_parts(Path(), None))
        rows = [{**_row(part), "what": "removed"} for part in parts if part.remove(client)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"- {row['kind']} {row['name']}")
    typer.echo(f"removed {len(rows)}")


def _parts(folder: Path, alerts: UUID | None) -> list[Part]:
    """Returns what the files describe, in the order of dependencies."""
    from drillyard_flows.blocks import installed
    from drillyard_flows.deploying.deployment import Deployment
    from drillyard_flows.deploying.files import desired
    from drillyard_flows.deploying.parts import Automation, BlockType, WorkPool

    content = desired()
    return [
        *(BlockType(block) for block in installed().values()),
        *(WorkPool(entry) for entry in content.pools),
        *(Deployment(entry, str(folder)) for entry in content.deployments),
        *(Automation(entry, alerts) for entry in content.automations),
    ]


def _row(part: Part) -> JsonObject:
    return {"kind": part.kind, "name": part.name}
