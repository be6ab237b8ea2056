"""``drillyard generate``: a complete experiment file with a comment at every value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("generate")(generate)


def generate(
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="`drillyard list algorithms` shows them.")
    ],
    simulator: Annotated[
        str,
        typer.Option("--simulator", "-s", help="A built-in, a Gymnasium id, or module:Class."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write or complete; else printed.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the experiment.")] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Budget in environment steps.")
    ] = 100_000,
) -> None:
    """Write a complete experiment file: each value with its meaning, unit and range.

    Run again on the same file it adds what is missing and leaves what you wrote as it is.
    """
    from drillyard.authoring.generate import generate as make

    made = make(algorithm, simulator, out, name=name, steps=steps)
    if made.path is None:
        typer.echo(made.text, nl=False)
        return
    if made.new:
        typer.echo(f"wrote {made.path}; drillyard run {made.path}")
    elif made.added:
        typer.echo(f"{made.path}: added {', '.join(made.added)}")
    else:
        typer.echo(f"{made.path} has everything already; it was not touched")
    for path in made.compact:
        typer.echo(f"  {path} is written on one line and was left as it is")
