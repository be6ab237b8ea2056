"""``drillyard new``: the package of a plug-in, or an experiment around a simulator."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from drillyard.authoring.scaffold import Scaffold

LOOK_S = 20.0
"""Longest time without a sign of life of a simulator that is tried."""


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
    kind: Annotated[
        Kind, typer.Argument(help="What it brings. Experiments: `drillyard generate`.")
    ],
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits, '-' and '_'.")],
    folder: Annotated[
        Path, typer.Option("--in", metavar="FOLDER", help="Folder to make it in.")
    ] = Path(),
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE.py[:CLASS]",
            help="simulator: write an experiment "
            "and a test around this one, which stays as it is.",
        ),
    ] = None,
) -> None:
    """Write a package for a plug-in: entry point, module with marked parts, conformance tests.

    Of a simulator: one that works, with an experiment; or, with --from, the experiment for one in
    plain Python that is there. Nothing is ever overwritten.
    """
    from drillyard.authoring.scaffold import write
    from drillyard.errors import ConfigError

    if source is not None:
        if kind is not Kind.SIMULATOR:
            raise ConfigError(
                "goes with a simulator",
                file="--from",
                value=source,
                allowed="drillyard new simulator NAME --from FILE.py",
                hint="leave it out",
            )
        made = _around(name, source)
        _tell(made, f"in {made.module}, correct what was guessed")
        for word in ("check", "run"):
            typer.echo(f"  drillyard {word} {made.module}")
        typer.echo(f"  python -m pytest {made.files[-1]}")
        return
    made = write(kind.value, name, folder)
    _tell(made, f"fill in {made.module}")
    if kind is Kind.SIMULATOR:
        for word in ("check", "run"):
            typer.echo(f"  drillyard {word} {made.folder / name}.yaml")
    typer.echo(f"  cd {made.folder} && pip install -e . && python -m pytest")


def _tell(made: Scaffold, heading: str) -> None:
    for path in made.files:
        typer.echo(f"wrote {path}")
    typer.echo(f"\n{heading}:")
    for line, what in made.parts:
        typer.echo(f"  line {line}: {what}")
    typer.echo("\nthen:")


def _around(name: str, source: str) -> Scaffold:
    from drillyard.authoring.scaffold import around, check_name
    from drillyard.authoring.scaffold.looking import look
    from drillyard.checks.experiment import guarded
    from drillyard.errors import ConfigError
    from drillyard.system.import_path import importable

    text, _, wanted = source.partition(":")
    file = Path(text)
    if not (file.is_file() and file.suffix == ".py"):
        raise ConfigError(
            "is no Python file",
            file="--from",
            value=text,
            allowed="FILE.py, or FILE.py:Class",
            hint="name the file of the simulator",
        )
    check_name("simulator", name)
    with importable(file.parent.resolve()):
        found = guarded(lambda: look(file, wanted or None), LOOK_S)
    return around(name, found, file.parent)
