"""Azure's sizes for what a run needs: which there are, what they cost, which to rent."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import TypedDict

from drillyard.backend import Alternative, PriceUpdate
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
    nearest_types,
    refusal,
)
from drillyard.documents.json_types import JsonObject, as_integer
from drillyard.errors import ConfigError
from drillyard_backends.azure import choices, prices, refresh
from drillyard_backends.azure.naming import cluster_of_size

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


class AzureMachines:
    """What ``AzureBackend`` answers before there is an instance of it."""

    @classmethod
    def machine_types(cls) -> MachineList:
        """See ``HasMachineTypes``."""
        types = tuple(_type(name, size) for name, size in table()["machines"].items())
        return MachineList(types, prices.date(), prices.currency(), prices.LIST.source())

    @classmethod
    def choose_machines(
        cls, need: Hardware, given: JsonObject, resolved: JsonObject
    ) -> JsonObject:
        """See ``HasMachineTypes``."""
        return choose(need, given, resolved)

    @classmethod
    def alternatives(cls, resolved: JsonObject, others: bool) -> list[Alternative]:
        """See ``HasAlternatives``."""
        return choices.alternatives(resolved, others)

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


@functools.cache
def table() -> Table:
    """Returns the table."""
    text = (importlib.resources.files(__package__) / "machines.json").read_text("utf-8")
    found: Table = json.loads(text)
    return found


def choose(need: Hardware, given: JsonObject, resolved: JsonObject) -> JsonObject:
    """See ``drillyard.backend.HasMachineTypes``.

    A cluster has one size and one priority for ever, so that each choice has a cluster of its own,
    unless the settings name one.
    """
    chosen, wanted = asked(need, given, resolved, NAMES)
    if not need.names_machines:
        return chosen
    low = bool(wanted.spot)
    types = AzureMachines.machine_types().types
    named, listed = given.get("vm_size"), given.get("vm_sizes")
    names = listed if isinstance(listed, list) and listed else [named]
    if all(isinstance(name, str) for name in names):
        for name in names:
            _compare(types, wanted, low, str(name))
        return chosen
    fit = fitting(types, wanted, low)
    if not fit:
        raise refusal(types, wanted, low, WHO, field=blamed(need))
    chosen |= fit[0].settings
    if "compute" not in resolved:
        chosen["compute"] = cluster_of_size(fit[0].name, low)
    return chosen


def _compare(types: tuple[MachineType, ...], wanted: Hardware, low: bool, named: str) -> None:
    """Refuses a size of the user's own that is known to be too small."""
    kind = next((kind for kind in types if kind.name.lower() == named.lower()), None)
    if kind is not None and kind.lacks(wanted):
        near = "; ".join(map(str, nearest_types(types, wanted, low)))
        raise ConfigError(
            f"{kind} does not have what resources asks for: {wanted}",
            field="backends.azure.vm_size",
            value=named,
            allowed=f"nearest: {near}",
            hint="remove vm_size, so that the cheapest that fits is taken; or change resources",
        )


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
