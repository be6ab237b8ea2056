"""``drillyard report``: rebuilds the report of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox


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
    from drillyard.report import build
    from drillyard.runs.locate import open_mailbox
    from drillyard.spec.stages import staged_tree

    mailbox = open_mailbox(name, store)
    if staged_tree(mailbox.experiment_record().spec):
        _stages(mailbox, out, open_=open_, as_json=as_json)
        return
    built = build(mailbox, out)
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
        _open(built.index)


def _stages(mailbox: Mailbox, out: Path | None, *, open_: bool, as_json: bool) -> None:
    """The page of a composite that is done in stages."""
    from drillyard.report.stages import build

    index = build(mailbox, out)
    if as_json:
        print_json({"index": index, "files": ["report/index.html"], "warnings": []})
    else:
        typer.echo(index)
    if open_:
        _open(index)


def _open(index: str) -> None:
    import webbrowser

    url = index if "://" in index else Path(index).resolve().as_uri()
    if not webbrowser.open(url):
        typer.echo(f"no browser found; open {url}", err=True)
