"""``drillyard compare``: experiments, trials and runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json

MeasureOption = Annotated[
    str | None,
    typer.Option(
        "--measure",
        metavar="NAME",
        help="What to compare: `return` or a metric. Default: the return, or the first "
        "common metric if there is no policy.",
    ),
]
PlacesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME NAME ...",
        help="Experiments, trials (NAME/t0003) or runs (NAME/t0003-s2). For another store, "
        "give the location: gs://bucket/NAME, folder/NAME.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FOLDER", help="Folder for the page; default: one in ~/.drillyard."
    ),
]


def compare(
    places: PlacesArgument,
    store: StoreOption = None,
    measure: MeasureOption = None,
    out: OutOption = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare experiments: curves, final evaluations with tests, settings, time and cost.

    Example: drillyard compare cstr-ppo cstr-sac --open
    """
    from drillyard.errors import UserError
    from drillyard.report.comparison.page import build
    from drillyard.report.comparison.side_by_side import compare as compare_places
    from drillyard.report.comparison.tables import to_json
    from drillyard.system.output_files import check_folder
    from drillyard.system.redaction import redact
    from drillyard.system.terminal import print_grid

    if out is not None:
        check_folder(out, "--out")
    comparison = compare_places(places, store, measure)
    page: Path | None = None
    try:
        page = build(comparison, out)
    except UserError as error:
        if out is not None or open_:
            raise
        # The table needs no matplotlib.
        typer.echo(f"the page was not written: {error}. {error.hint or ''}".rstrip(), err=True)
    if as_json:
        print_json({**to_json(comparison), "page": None if page is None else str(page)})
    else:
        print_grid(comparison.scores_table)
        typer.echo("")
        for text in (comparison.verdict, *comparison.notes):
            typer.echo(redact(text))
        if comparison.mlflow:
            typer.echo(f"MLflow: {comparison.mlflow}")
        if page is not None:
            typer.echo(f"page: {page}")
        for warning in comparison.warnings:
            typer.echo(f"warning: {warning}", err=True)
    if open_ and page is not None:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            typer.echo(f"no browser found; open {page}", err=True)
