"""Prints grids: rich tables on a terminal, aligned text without control characters elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from drillyard.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from drillyard.system.tables import Grid


def console(stderr: bool = False) -> Console:
    """Returns a console: colours on a terminal, plain text elsewhere, unwrapped in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def print_grid(grid: Grid) -> None:
    """Prints a table to stdout."""
    from drillyard.system.redaction import redact

    if sys.stdout.isatty():
        out = console()
        out.print(grid.rich(out.width))
    else:
        typer.echo(redact(grid.plain()))


def confirm(question: str, yes: bool) -> None:
    """Ask, unless told not to.

    Args:
        question: What is asked.
        yes: Do not ask.

    Raises:
        UserError: There is no terminal to ask on, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(
            "nothing was done: there is no terminal to ask on",
            hint="pass --yes",
        )
    if not typer.confirm(question, err=True):
        raise UserError("nothing was done", hint="answer y, or pass --yes")
