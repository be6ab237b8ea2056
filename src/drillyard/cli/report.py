"""``drillyard report``: rebuilds the report of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command("report")(report)


def report(
    name: NameArgument = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Also write it to a folder; default for a bucket: one in ~/.drillyard/reports.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build the report: one page with curves, intervals, an episode, configuration and cost."""
    from drillyard.report import build
    from drillyard.runs.locate import open_mailbox

    built = build(open_mailbox(name, store), out)
    if as_json:
        print_json(
            {
                "index": built.index,
                "files": list(built.keys),
                "warnings": list(built.results.warnings),
            }
        )
    else:
        typer.echo(built.index)
        for warning in built.results.warnings:
            typer.echo(f"warning: {warning}", err=True)
    if open_:
        import webbrowser

        url = built.local.resolve().as_uri() if built.local is not None else built.index
        if not webbrowser.open(url):
            typer.echo(f"no browser found; open {url}", err=True)
