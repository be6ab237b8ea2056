"""``drillyard sync``: sends missing data to the tracking server."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption
from drillyard.system.durations import duration


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command("sync")(sync)


def sync(
    name: NameArgument = None,
    store: StoreOption = None,
    uri: Annotated[
        str | None,
        typer.Option(
            "--uri", metavar="URI", help="Tracking server that replaces the experiment's."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Give up after this long.")
    ] = 600.0,
    json_: JsonOption = False,
) -> None:
    """Send missing curves, parameters and files to MLflow.

    Nothing is sent twice, even after an interruption.
    """
    from dataclasses import asdict

    from drillyard.cli.common import print_json
    from drillyard.documents.json_types import as_object
    from drillyard.errors import ControlPlaneError, UserError
    from drillyard.runs.locate import open_mailbox
    from drillyard.tracking import Mirror, behind, resolve_uri

    mailbox = open_mailbox(name, store)
    record = mailbox.experiment_record()
    setting = uri or as_object(record.spec.get("tracking")).get("mlflow")
    target = resolve_uri(setting if isinstance(setting, str) else None, mailbox.store.url)
    if target is None:
        raise UserError(
            f"no tracking server for {mailbox.experiment!r}: "
            + ("tracking is off in its file" if setting is None else "its store is not local"),
            hint="drillyard sync NAME --uri http://…, or set MLFLOW_TRACKING_URI",
        )
    report = Mirror(mailbox, target, on_warning=lambda _: None).sync_once(timeout)
    if report.complete and target == behind.target(mailbox):
        behind.forget(mailbox)
    if json_:
        print_json(asdict(report))
    elif report.complete:
        typer.echo(
            f"{mailbox.experiment}: {report.points} points and {report.artifacts} files of "
            f"{report.runs} runs sent to {report.uri} in {duration(report.wall_s)}; "
            "it is up to date."
        )
        for line in filter(None, (report.registered, report.link)):
            typer.echo(line)
    if not report.complete:
        raise ControlPlaneError(
            f"{report.uri} is not up to date: {report.error}", hint=report.hint
        )
