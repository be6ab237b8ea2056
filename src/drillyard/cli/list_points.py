"""``drillyard list points``: what of a model can be read and set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, print_json

if TYPE_CHECKING:
    from drillyard.documents.json_types import JsonObject


def list_points(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An FMU, a model of EnergyPlus (.epJSON, .idf), the name of one of its "
            "reference buildings, or the file of an experiment on a server.",
        ),
    ],
    like: Annotated[
        str, typer.Option("--like", metavar="TEXT", help="Only names with this text.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List the variables, meters, actuators and parameters of a model, with their units."""
    from drillyard.system.import_path import importable
    from drillyard.system.tables import rows_grid
    from drillyard.system.terminal import print_grid

    file = Path(model)
    with importable(file.parent.resolve()):
        if file.suffix == ".fmu":
            rows = _of_fmu(file.name)
        elif file.suffix in (".yaml", ".yml", ".json"):
            rows = _of_server(file)
        else:
            rows = _of_building(file.name)
    rows = [row for row in rows if like.lower() in str(row["name"]).lower()]
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo(f"{model} has no name with {like!r}" if like else f"{model} has no names")
        return
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    print_grid(rows_grid("", list(rows[0]), cells))


def _of_fmu(file: str) -> list[JsonObject]:
    from drillyard.simulators.fmu.description import read_model

    return [
        {
            "name": v.name,
            "kind": "tunable parameter" if v.tunable else v.causality,
            "unit": v.unit,
            "low": v.low,
            "high": v.high,
            "start": v.start,
            "description": v.description,
        }
        for v in read_model(file).variables.values()
    ]


def _of_building(model: str) -> list[JsonObject]:
    from drillyard.system.optional_packages import must_have

    must_have("energyplus", f"the model {model}")
    from drillyard.simulators.energyplus.points import points

    return [{"name": p.name, "kind": p.kind, "unit": p.unit} for p in sorted(points(model))]


def _of_server(file: Path) -> list[JsonObject]:
    from drillyard.errors import ConfigError
    from drillyard.simulators.classes import simulator_class
    from drillyard.simulators.make import explained
    from drillyard.simulators.reached import Reached
    from drillyard.spec.load import load
    from drillyard.spec.references import reveal

    spec = load(file).spec.simulator
    kind = simulator_class(spec) if spec is not None else None
    if spec is None or not isinstance(kind, type) or not issubclass(kind, Reached):
        raise ConfigError(
            "is not an experiment on a server",
            value=str(file),
            allowed="a model, or an experiment with `simulator: {id: opcua}` or `boptest`",
        )
    with explained(spec, kind):
        points = kind(**reveal(spec.args)).points()
    writable = {point.name for point in points["action"]}
    return [
        {
            "name": point.name,
            "kind": "can be set" if point.name in writable else "is read",
            "unit": point.unit,
            "low": point.low,
            "high": point.high,
        }
        for point in {p.name: p for p in (*points["observation"], *points["action"])}.values()
    ]
