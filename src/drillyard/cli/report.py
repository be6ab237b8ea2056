"""``drillyard report``: build the page of an experiment anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("report")(report)


def report(
    name: NameArgument = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Also write it there; default for a bucket: a folder in ~/.drillyard/reports.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build the report: one page with curves, intervals, an episode, configuration and cost."""
    from drillyard.report import build
    from drillyard.runs.locate import open_mailbox

    made = build(open_mailbox(name, store), out)
    if as_json:
        print_json(
            {
                "index": made.index,
                "files": list(made.keys),
                "warnings": list(made.results.warnings),
            }
        )
    else:
        typer.echo(made.index)
        for warning in made.results.warnings:
            typer.echo(f"note: {warning}", err=True)
    if open_:
        import webbrowser

        url = made.local.resolve().as_uri() if made.local is not None else made.index
        if not webbrowser.open(url):
            typer.echo(f"no browser found; open {url}", err=True)
