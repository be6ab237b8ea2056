"""``drillyard new``: writes a plug-in package, or an experiment for a simulator."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from drillyard.authoring.scaffold import Scaffold

LOOK_S = 20.0
"""Longest silence of a simulator during the trial calls, in seconds."""


class Kind(enum.StrEnum):
    """Kinds of plug-ins."""

    BACKEND = "backend"
    SIMULATOR = "simulator"
    LEARNER = "learner"
    WORKLOAD = "workload"


def new(
    kind: Annotated[
        Kind, typer.Argument(help="Kind of plug-in. For an experiment, use `drillyard generate`.")
    ],
    name: Annotated[
        str,
        typer.Argument(
            help="Name: lower-case letters, digits, '-' and '_'; or an FMU: `plant.fmu`."
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--in", metavar="FOLDER", help="Parent folder of the package.")
    ] = Path(),
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE.py[:CLASS]",
            help="Write an experiment and a test for this simulator, which is not changed.",
        ),
    ] = None,
) -> None:
    """Begin with your own simulator, learner, workload or backend.

    `new simulator` with --from FILE.py or PLANT.fmu writes an experiment for a simulator that you
    have. Without, the command writes a plug-in package: entry point, module with marked parts,
    conformance tests. It never overwrites a file.
    """
    from drillyard.authoring.scaffold import write
    from drillyard.errors import ConfigError

    if source is not None:
        if kind is not Kind.SIMULATOR:
            raise ConfigError(
                "is for simulators only",
                file="--from",
                value=source,
                allowed="drillyard new simulator NAME --from FILE.py",
                hint="remove it",
            )
        scaffold = _around(name, source)
        _print_guesses(scaffold)
        typer.echo(f"  python -m pytest {scaffold.files[-1]}")
        return
    if kind is Kind.SIMULATOR and name.endswith(".fmu"):
        _print_guesses(_around_fmu(Path(name)))
        return
    scaffold = write(kind.value, name, folder)
    _print(scaffold, f"fill in {scaffold.module}")
    if kind is Kind.SIMULATOR:
        for command in ("check", "run"):
            typer.echo(f"  drillyard {command} {scaffold.folder / name}.yaml")
    typer.echo(f"  cd {scaffold.folder} && pip install -e . && python -m pytest")


def _print_guesses(scaffold: Scaffold) -> None:
    _print(scaffold, f"in {scaffold.module}, correct these guesses")
    for command in ("check", "run"):
        typer.echo(f"  drillyard {command} {scaffold.module}")


def _print(scaffold: Scaffold, heading: str) -> None:
    for path in scaffold.files:
        typer.echo(f"wrote {path}")
    typer.echo(f"\n{heading}:")
    for line, what in scaffold.parts:
        typer.echo(f"  line {line}: {what}")
    typer.echo("\nthen:")


def _around_fmu(file: Path) -> Scaffold:
    from drillyard.authoring.scaffold.fmu import around_fmu
    from drillyard.checks.experiment import guarded
    from drillyard.system.import_path import importable

    with importable(file.parent.resolve()):
        return guarded(lambda: around_fmu(file), LOOK_S)


def _around(name: str, source: str) -> Scaffold:
    from drillyard.authoring.scaffold import around, check_name
    from drillyard.authoring.scaffold.looking import look
    from drillyard.checks.experiment import guarded
    from drillyard.errors import ConfigError
    from drillyard.system.import_path import working_in

    text, _, class_name = source.partition(":")
    file = Path(text)
    if not (file.is_file() and file.suffix == ".py"):
        raise ConfigError(
            "is not a Python file",
            file="--from",
            value=text,
            allowed="FILE.py, or FILE.py:Class",
            hint="name the file of the simulator",
        )
    check_name("simulator", name)
    with working_in(file.parent.resolve()):
        description = guarded(lambda: look(file, class_name or None), LOOK_S)
    return around(name, description, file.parent)
