"""``drillyard generate``: writes a complete experiment file with a comment on every value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli import completing
from drillyard.cli.arguments import SeedsOption, StepsOption
from drillyard.errors import misused

AlgorithmOption = Annotated[
    str,
    typer.Option(
        "--algorithm",
        "-a",
        help="Algorithm; see `drillyard list algorithms`.",
        autocompletion=completing.algorithms,
    ),
]
SimulatorOption = Annotated[
    str,
    typer.Option(
        "--simulator",
        "-s",
        help="Built-in simulator, Gymnasium id, or module:Class.",
        autocompletion=completing.simulators,
    ),
]


def generate(
    algorithm: AlgorithmOption,
    simulator: SimulatorOption,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write or complete; default: print it."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the experiment.")] = None,
    steps: StepsOption = None,
    seeds: SeedsOption = None,
    short: Annotated[
        bool,
        typer.Option("--short", help="Write only the fields that differ between experiments."),
    ] = False,
) -> None:
    """Write a complete experiment file that explains each value, with unit and range.

    If the file exists, the command adds missing values and leaves yours as they are.
    """
    from drillyard.authoring.generate import STEPS, Generated
    from drillyard.authoring.generate import generate as make
    from drillyard.authoring.short import from_options, write_short
    from drillyard.spec.field_options import steps_of

    if short or seeds is not None:
        if not short:
            hint = "add --short, or write `seeds:` into the file"
            raise misused("works only with --short", "--seeds", seeds, "with --short", hint)
        folder = out.parent if out is not None else Path()
        text = from_options(
            algorithm, simulator, name=name, steps=steps, seeds=seeds, folder=folder
        )
        generated = Generated(write_short(text, out), out)
    else:
        budget = STEPS if steps is None else steps_of(steps)
        generated = make(algorithm, simulator, out, name=name, steps=budget)
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
