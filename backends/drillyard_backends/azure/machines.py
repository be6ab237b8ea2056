"""Azure's sizes for what a run needs: which there are, what they cost, which to rent."""

from __future__ import annotations

import functools
from typing import TypedDict

from drillyard.backend import PriceUpdate
from drillyard.backend.hardware import (
    Hardware,
    MachineList,
    MachineType,
    Names,
    Packing,
    Place,
    asked,
    blamed,
    fitting,
    refusal,
    too_small,
)
from drillyard.documents.json_types import JsonObject, as_integer
from drillyard_backends.azure import choices, prices, refresh
from drillyard_backends.azure.naming import cluster_of_size
from drillyard_backends.pricelists import packaged_table

WHO = "Azure ML"
NAMES = Names("azure", "low_priority", "runs_per_machine")


class Size(TypedDict):
    """A size of machines."""

    cpus: int
    memory_gb: float
    gpu: str | None
    gpus: int
    source: str
    """Key of ``Table.sources``."""


class Table(TypedDict):
    """The table of sizes, with the source and the date of each number."""

    date: str
    sources: dict[str, str]
    machines: dict[str, Size]


@functools.cache
def table() -> Table:
    """Returns the table."""
    packaged: Table = packaged_table(__package__, "machines.json")
    return packaged


def machine_types() -> MachineList:
    """Returns every size of the table; makes no request."""
    types = tuple(_type(name, size) for name, size in table()["machines"].items())
    return MachineList(types, prices.date(), prices.currency(), prices.LIST.source())


def choose(need: Hardware, given: JsonObject, resolved: JsonObject) -> JsonObject:
    """See ``drillyard.backend.HasMachineTypes``.

    A cluster has one size and one priority for ever, so that each choice has a cluster of its own,
    unless the settings name one.
    """
    chosen, needed = asked(need, given, resolved, NAMES)
    if not need.names_machines:
        return chosen
    low = bool(needed.spot)
    types = machine_types().types
    named, listed = given.get("vm_size"), given.get("vm_sizes")
    names = listed if isinstance(listed, list) and listed else [named]
    if all(isinstance(name, str) for name in names):
        _compare(types, needed, low, [str(name) for name in names])
        return chosen
    fit = fitting(types, needed, low)
    if not fit:
        raise refusal(types, needed, low, WHO, field=blamed(need))
    chosen |= fit[0].settings
    if "compute" not in resolved:
        chosen["compute"] = cluster_of_size(fit[0].name, low)
    return chosen


def _compare(
    types: tuple[MachineType, ...], needed: Hardware, low: bool, names: list[str]
) -> None:
    """Refuses a size of the user's own that is known to be too small."""
    known = {kind.name.lower(): kind for kind in types}
    for name in names:
        kind = known.get(name.lower())
        if kind is not None and kind.lacks(needed):
            raise too_small(kind, types, needed, low, "backends.azure.vm_size", name)


def _type(name: str, size: Size) -> MachineType:
    places = [Place(region, (), *both) for region, both in sorted(prices.regions(name).items())]
    if not places:
        # The list has one price, of West Europe, or none.
        places = [Place("westeurope", (), prices.price(name, False), prices.price(name, True))]
    return MachineType(
        name,
        size["cpus"],
        size["memory_gb"],
        size["gpu"],
        size["gpus"],
        tuple(places),
        {"vm_size": name},
        source=f"{size['source']}, {table()['date']}",
    )


class AzureMachines:
    """What ``AzureBackend`` answers before there is an instance of it."""

    machine_types = staticmethod(machine_types)
    choose_machines = staticmethod(choose)
    alternatives = staticmethod(choices.alternatives)

    @classmethod
    def packing(cls, resolved: JsonObject) -> Packing:
        """See ``PacksRuns``."""
        named = str(resolved.get("vm_size") or "")
        known = {name.lower(): size["memory_gb"] for name, size in table()["machines"].items()}
        runs = as_integer(resolved.get(NAMES.per_machine)) or 1
        return Packing(runs, {named: known.get(named.lower())})

    @classmethod
    def fetch_prices(cls, key: str | None = None) -> PriceUpdate:
        """See ``RefreshesPrices``: the Azure Retail Prices API, which wants no key."""
        return refresh.fetch(sorted({*table()["machines"], *prices.sizes()}))
