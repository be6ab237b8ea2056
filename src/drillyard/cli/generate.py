"""``drillyard generate``: writes a complete experiment file with a comment on every value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command("generate")(generate)


def generate(
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="Algorithm; see `drillyard list algorithms`.")
    ],
    simulator: Annotated[
        str,
        typer.Option(
            "--simulator", "-s", help="Built-in simulator, Gymnasium id, or module:Class."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write or complete; default: print it."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the experiment.")] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Training budget in environment steps.")
    ] = 100_000,
) -> None:
    """Write a complete experiment file that explains each value, with unit and range.

    If the file exists, the command adds missing values and leaves yours as they are.
    """
    from drillyard.authoring.generate import generate as make

    generated = make(algorithm, simulator, out, name=name, steps=steps)
    if generated.path is None:
        typer.echo(generated.text, nl=False)
        return
    if generated.new:
        typer.echo(f"wrote {generated.path}; start it with: drillyard run {generated.path}")
    elif generated.added:
        typer.echo(f"{generated.path}: added {', '.join(generated.added)}")
    else:
        typer.echo(f"{generated.path} is already complete and was not changed")
    for path in generated.compact:
        typer.echo(f"  {path} is written on one line and was not changed")
