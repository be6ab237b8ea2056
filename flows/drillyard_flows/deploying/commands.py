"""``drillyard deploy`` and ``undeploy``: register and remove drillyard's parts of Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, print_json
from drillyard_flows.deploying import scheduling

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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, without changing it.")
    ] = False,
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

    You can repeat the command: it changes only what differs.
    """
    from drillyard_flows.deploying import alerts as telling
    from drillyard_flows.deploying import applying, files
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        block = telling.make(alerts) if alerts and not dry_run else telling.find(client)
        parts = applying.parts(files.desired(), folder.expanduser().resolve(), block)
        changes = list(applying.deploy(client, parts, dry_run=dry_run))
    if as_json:
        print_json([vars(change) for change in changes])
        return
    for change in changes:
        if change.what:
            sign, what = ("+", "") if change.what == "new" else ("~", f": {change.what}")
            typer.echo(f"{sign} {change.kind} {change.name}{what}")
    done = sum(bool(change.what) for change in changes)
    verb = "would change" if dry_run else "changed"
    typer.echo(f"{verb} {done} of {len(changes)}; the rest is up to date")
    if not folder.expanduser().is_dir():
        typer.echo(
            f"{folder} does not exist on this machine; flow runs need it on the worker's machine"
        )
    if block is None and not (alerts and dry_run):
        typer.echo("alerts are not sent yet; to send them: drillyard deploy --alerts https://…")


def undeploy(as_json: JsonOption = False) -> None:
    """Remove everything that `deploy` registered. Past runs and saved settings are kept."""
    from drillyard_flows.deploying import applying, files
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        parts = applying.parts(files.desired(), Path(), None)
        changes = list(applying.undeploy(client, parts))
    if as_json:
        print_json([vars(change) for change in changes])
        return
    for change in changes:
        typer.echo(f"- {change.kind} {change.name}")
    typer.echo(f"removed {len(changes)}")
