"""Prints grids: rich tables on a terminal, aligned text without control characters elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from drillyard.mailbox import Mailbox
    from drillyard.results.trials import StudyResults
    from drillyard.system.tables import Grid


def print_grid(grid: Grid) -> None:
    """Prints a table to stdout."""
    from drillyard.system.redaction import redact

    if sys.stdout.isatty():
        from drillyard.cli.common import console

        out = console()
        out.print(grid.rich(out.width))
    else:
        typer.echo(redact(grid.plain()))


def print_study(study: StudyResults, top: int | None = None) -> None:
    """Prints the best trials of a study, where to find the others, and the verdict.

    Args:
        study: The study's trials.
        top: Number of trials; default 10.
    """
    from drillyard.results import study_table

    print_grid(study_table.trials_grid(study, top))
    if others := study_table.left_out(study, top):
        typer.echo(others)
    typer.echo("")
    typer.echo(study_table.verdict(study))


def show_stages(mailbox: Mailbox, *, as_json: bool) -> None:
    """Prints the stages of a composite, and the result of each.

    Args:
        mailbox: The composite.
        as_json: Print one JSON document instead.
    """
    from drillyard.cli.common import print_json
    from drillyard.results.stages import as_dict, grid, read

    found = read(mailbox)
    if as_json:
        print_json(as_dict(found))
        return
    print_grid(grid(found))
    typer.echo("")
    for stage in found.stages:
        if stage.name in found.verdicts:
            typer.echo(f"{stage.experiment}: {found.verdicts[stage.name]}")


def write_csv(text: str, path: Path) -> None:
    """Writes CSV to a file, or to stdout for ``-``.

    Raises:
        ConfigError, StoreUnavailable: The file cannot be written.
    """
    from drillyard.system.output_files import writing

    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    with writing(path, "--csv"):
        path.write_text(text, encoding="utf-8", newline="")
    typer.echo(f"{max(0, text.count(chr(10)) - 1):,} rows: {path}", err=True)
