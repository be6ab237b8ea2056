"""Grids on a terminal as rich tables, elsewhere as aligned text without control characters."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from drillyard.results.table import Grid


def print_grid(grid: Grid) -> None:
    """Print a table to stdout."""
    from drillyard.redaction import redact
    from drillyard.results.table import plain_table, rich_table

    if sys.stdout.isatty():
        from drillyard.cli.common import console

        out = console()
        out.print(rich_table(grid, out.width))
    else:
        typer.echo(redact(plain_table(grid)))
