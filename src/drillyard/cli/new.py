"""``drillyard new``: the package of a plug-in, ready to be filled in."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Kind(enum.StrEnum):
    """What a plug-in may bring."""

    BACKEND = "backend"
    SIMULATOR = "simulator"
    LEARNER = "learner"
    WORKLOAD = "workload"


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("new")(new)


def new(
    kind: Annotated[Kind, typer.Argument(help="What it brings.")],
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits, '-' and '_'.")],
    folder: Annotated[Path, typer.Option("--in", help="Folder to make it in.")] = Path(),
) -> None:
    """Write a package for a plug-in: entry point, module with marked parts, conformance tests.

    Nothing is ever overwritten.
    """
    from drillyard.scaffold import write

    made = write(kind.value, name, folder)
    for path in made.files:
        typer.echo(f"wrote {path}")
    typer.echo(f"\nfill in {made.module}:")
    for line, what in made.parts:
        typer.echo(f"  line {line}: {what}")
    typer.echo(f"\nthen: cd {made.folder} && pip install -e . && python -m pytest")
