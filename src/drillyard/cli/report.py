"""``drillyard report``: rebuilds the report of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json


def report(
    name: NameArgument = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Also write the report to this folder. Default if the store is a bucket: one "
            "in ~/.drillyard/reports.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build the report: one page with curves, intervals, an episode, configuration and cost."""
    from drillyard.report import build, stages
    from drillyard.runs.locate import open_mailbox
    from drillyard.spec.stages import staged_tree

    mailbox = open_mailbox(name, store)
    files, warnings = ["report/index.html"], list[str]()
    if staged_tree(mailbox.experiment_record().spec):
        index = stages.build(mailbox, out)
    else:
        built = build(mailbox, out)
        index, files, warnings = built.index, list(built.keys), list(built.results.warnings)
    if as_json:
        print_json({"index": index, "files": files, "warnings": warnings})
    else:
        typer.echo(index)
        for warning in warnings:
            typer.echo(f"warning: {warning}", err=True)
    if open_:
        import webbrowser

        url = index if "://" in index else Path(index).resolve().as_uri()
        if not webbrowser.open(url):
            typer.echo(f"no browser found; open {url}", err=True)
