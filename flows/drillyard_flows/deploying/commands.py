"""``drillyard deploy`` and ``undeploy``: typed arguments in, lines out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, print_json

FolderOption = Annotated[
    Path,
    typer.Option(
        "--folder",
        metavar="PATH",
        help="Where flow runs start on the worker's machine: relative paths in forms begin here.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to drillyard's command line.

    Args:
        app: The application.
    """
    app.command("deploy")(deploy)
    app.command("undeploy")(undeploy)


def deploy(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; change nothing.")
    ] = False,
    folder: FolderOption = Path(),
    alerts: Annotated[
        str | None,
        typer.Option(
            "--alerts",
            metavar="URL",
            envvar="DRILLYARD_ALERTS",
            help="Webhook that is told what automations see (Slack's too), or env:NAME, file:PATH "
            "where the address stands. Kept in the server as the block drillyard-alerts.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register forms, work pools, deployments, schedules and automations on the Prefect server.

    Repeat it at will: what is as it should be is left alone.
    """
    from drillyard_flows.deploying import alerts as telling
    from drillyard_flows.deploying import applying, files
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        block = telling.make(alerts) if alerts and not dry_run else telling.find(client)
        found = applying.parts(files.wanted(), folder.expanduser().resolve(), block)
        changes = list(applying.deploy(client, found, dry_run=dry_run))
    if as_json:
        print_json([vars(change) for change in changes])
        return
    for change in changes:
        if change.what:
            sign, what = ("+", "") if change.what == "new" else ("~", f": {change.what}")
            typer.echo(f"{sign} {change.kind} {change.name}{what}")
    done = sum(bool(change.what) for change in changes)
    verb = "would change" if dry_run else "changed"
    typer.echo(f"{verb} {done} of {len(changes)}; the rest is as it should be")
    if not folder.expanduser().is_dir():
        typer.echo(f"{folder} is no folder on this machine: flow runs need it on the worker's")
    if block is None and not (alerts and dry_run):
        typer.echo("alerts go nowhere yet: drillyard deploy --alerts https://…")


def undeploy(as_json: JsonOption = False) -> None:
    """Take away what deploy registered. Past runs and saved settings stay."""
    from drillyard_flows.deploying import applying, files
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        found = applying.parts(files.wanted(), Path(), None)
        changes = list(applying.undeploy(client, found))
    if as_json:
        print_json([vars(change) for change in changes])
        return
    for change in changes:
        typer.echo(f"- {change.kind} {change.name}")
    typer.echo(f"removed {len(changes)}")
