"""``drillyard list machines``: the machine types that can be rented, with regions and prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from drillyard.cli.common import JsonOption, print_json

if TYPE_CHECKING:
    from drillyard.backend.hardware import MachineList, MachineType
    from drillyard.documents.json_types import JsonObject

SHOWN = 4
"""Number of regions that a row names."""


def list_machines(
    gpu: Annotated[str | None, typer.Option("--gpu", help="Model of GPU: L4, H100, …")] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="Minimum number of GPUs.")] = 0,
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="Minimum number of CPUs.")
    ] = None,
    memory_gb: Annotated[
        float | None, typer.Option("--memory-gb", min=0, help="Minimum memory, in GB.")
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="Only this region; a prefix is enough.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="Only this backend: gcp, azure, …")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List machine types of every cloud with regions and hourly prices, cheapest first."""
    from math import inf

    from drillyard.backend.hardware import Hardware, fitting
    from drillyard.backend.prices import dated, months_old
    from drillyard.documents.json_types import as_number
    from drillyard.system.clock import SYSTEM

    need = Hardware(_model(gpu), max(gpus, gpu is not None), cpus, memory_gb)
    lists = _lists(backend)
    rows: list[JsonObject] = []
    for kind, listed in lists.items():
        types = [_within(machine, region) for machine in listed.types]
        rows += [_row(kind, machine) for machine in fitting(types, need, False) if machine.places]
    rows.sort(key=lambda row: as_number(row["price"]) or as_number(row["spot_price"]) or inf)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "prices_of": {kind: prices.prices_of for kind, prices in lists.items()},
                "months_old": {
                    kind: months_old(prices.prices_of, SYSTEM.now())
                    for kind, prices in lists.items()
                },
                "machines": [*rows],
            }
        )
        return
    _show(rows)
    for kind, prices in lists.items():
        of = dated(prices.prices_of, SYSTEM.now())
        typer.echo(
            f"{kind}: prices of {of} in {prices.currency} an hour, from {prices.source}; "
            f"newer ones: drillyard prices refresh {kind}"
        )


def _model(gpu: str | None) -> str | None:
    """Returns the model as the field writes it.

    Raises:
        ConfigError: No such model.
    """
    from drillyard.errors import ConfigError
    from drillyard.spec.running import Gpu

    models: tuple[str, ...] = get_args(Gpu)
    known = {model.lower(): model for model in models}
    if gpu is None or gpu.lower() in known:
        return None if gpu is None else known[gpu.lower()]
    raise ConfigError("no such GPU", field="--gpu", value=gpu, known=models)


def _lists(backend: str | None) -> dict[str, MachineList]:
    """Returns the machine types of every backend that has a list of them.

    Raises:
        ConfigError: The backend has none.
        PluginError: No such backend.
    """
    from drillyard.backend import HasMachineTypes
    from drillyard.errors import ConfigError
    from drillyard.registry import load, names

    lists = {
        kind: factory.machine_types()
        for kind in ([backend] if backend else names("backends"))
        if isinstance(factory := load("backends", kind), HasMachineTypes)
    }
    if backend and not lists:
        raise ConfigError(
            "has no list of machine types: its machines are used as they are",
            field="--backend",
            value=backend,
            allowed="a backend that rents machines, such as gcp or azure",
            hint="leave --backend out",
        )
    return lists


def _within(machine: MachineType, region: str | None) -> MachineType:
    from dataclasses import replace

    kept = tuple(place for place in machine.places if place.region.startswith(region or ""))
    return replace(machine, places=kept)


def _row(kind: str, machine: MachineType) -> JsonObject:
    return {
        "backend": kind,
        "type": machine.name,
        "gpu": machine.gpu,
        "gpus": machine.gpus,
        "cpus": machine.cpus,
        "memory_gb": machine.memory_gb,
        "price": None if machine.only_spot else machine.cheapest(False),
        "spot_price": min((p.spot_price for p in machine.places if p.spot_price), default=None),
        "only_spot": machine.only_spot,
        "regions": {
            place.region: {
                "zones": [*place.zones],
                "price": None if machine.only_spot else place.price,
                "spot_price": place.spot_price,
            }
            for place in sorted(machine.places, key=lambda p: (p.price is None, p.price or 0.0))
        },
        "source": machine.source,
    }


def _show(rows: list[JsonObject]) -> None:
    from drillyard.documents.json_types import as_number, as_object
    from drillyard.system.lists import few
    from drillyard.system.tables import Table
    from drillyard.system.terminal import print_grid

    if not rows:
        typer.echo("no machine type has that")
        return

    def money(row: JsonObject, name: str) -> str:
        price = as_number(row[name])
        if price is None:
            return "only Spot" if name == "price" and row["only_spot"] else "not known"
        return f"{price:,.3f}"

    table = Table("machine types", rows)
    table.text("backend", lambda row: str(row["backend"]))
    table.text("type", lambda row: str(row["type"]))
    table.text("GPUs", lambda row: f"{row['gpus']} x {row['gpu']}" if row["gpu"] else "")
    table.number("CPUs", lambda row: str(row["cpus"]))
    table.number("GB", lambda row: f"{row['memory_gb']:g}")
    table.number("from, an hour", lambda row: money(row, "price"))
    table.number("Spot", lambda row: money(row, "spot_price"))
    print_grid(table.text("regions", lambda row: few(list(as_object(row["regions"])), SHOWN)))
