"""Google's machine types for what a run needs: which there are, what they cost, which to rent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial

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
from drillyard.documents.json_types import Json, JsonObject, as_integer
from drillyard.errors import ConfigError
from drillyard_backends.gcp import prices, refresh
from drillyard_backends.gcp.machine_table import Machine, table
from drillyard_backends.gcp.settings import GcpConfig

WHO = "Google Cloud"
NAMES = Names("gcp", "spot", "workers_per_machine")
ALTERNATIVES, PRICE_RATIO = 2, 1.4
"""How many further types are tried where the cheapest has no capacity, and up to which price."""


_kept: list[tuple[prices.Table, MachineList]] = []
"""The price list in use, and the machines with its prices: thousands of sums."""


def machine_types() -> MachineList:
    """Returns every type of the table; makes no request."""
    listed = prices.table()
    if not _kept or _kept[0][0] is not listed:
        _kept[:] = [(listed, _all_types())]
    return _kept[0][1]


def _all_types() -> MachineList:
    types = [
        *(_bringing(name, known) for name, known in table()["machines"].items()),
        *_attached(),
        *_plain(),
    ]
    return MachineList(tuple(types), prices.date(), prices.currency(), prices.LIST.source())


def choose(need: Hardware, given: JsonObject, resolved: JsonObject) -> JsonObject:
    """See ``drillyard.backend.HasMachineTypes``.

    The cheapest type is rented in the zones of the settings. Without such a setting, zones that
    have the type are taken: of the default region, else of its continent, else of any other.
    """
    chosen, needed = asked(need, given, resolved, NAMES)
    if not need.names_machines:
        return chosen
    spot = bool(needed.spot)
    types = machine_types().types
    if given.get("machine_types"):
        _compare(types, needed, spot, given)
        return chosen
    zones = _texts(resolved.get("zones"))
    here = _where_to_rent(types, need, needed, spot, zones)
    best = here[0]
    if not zones and any(place.zones for place in best.places):
        chosen["zones"] = [zone for place in best.places for zone in place.zones]
    if best.only_spot and "on_demand_after" not in resolved:
        chosen["on_demand_after"] = None  # it is not rented otherwise
    kept: JsonObject = {n: given[n] for n in ("disk_type", "cheapest_first") if n in given}
    rented = [best, *_alternatives(here, spot)]
    names = [name for kind in rented for name in _texts(kind.settings["machine_types"])]
    listed: JsonObject = {"machine_types": [*names], "cheapest_first": True}
    return {**chosen, **best.settings, **listed, **kept}


def _where_to_rent(
    types: Sequence[MachineType], need: Hardware, needed: Hardware, spot: bool, zones: list[str]
) -> list[MachineType]:
    """Returns the types that fit, with the places where they are rented; the cheapest first.

    Raises:
        ConfigError: No type fits, or none in the zones.
    """
    fit = fitting(types, needed, spot)
    if not fit:
        raise refusal(types, needed, spot, WHO, field=blamed(need))
    here = _fitting_in(fit, zones or _default_zones(), needed, spot)
    if zones and not here:
        raise _elsewhere(fit, zones, spot)
    return here or _nearby(fit, needed, spot)


def _alternatives(here: Sequence[MachineType], spot: bool) -> list[MachineType]:
    """Returns the next cheapest types, to be tried where the best one is not available.

    They fit too, cost at most ``PRICE_RATIO`` times as much, and take the same other settings.
    """
    best, price = here[0], here[0].cheapest(spot)
    if price is None:
        return []
    same = {**best.settings, "machine_types": None}
    return [
        kind
        for kind in here[1:]
        if {**kind.settings, "machine_types": None} == same
        and kind.only_spot is best.only_spot
        and (kind.cheapest(spot) or float("inf")) <= PRICE_RATIO * price
    ][:ALTERNATIVES]


def _compare(
    types: Sequence[MachineType], needed: Hardware, spot: bool, given: JsonObject
) -> None:
    """Refuses a machine type of the user's own that is known to be too small.

    GPUs that are attached by other settings are compared where Google is asked.
    """
    known = {kind.name: kind for kind in types}
    for name in _texts(given.get("machine_types")):
        kind = known.get(name)
        if kind is not None and not given.get("gpu_type") and kind.lacks(needed):
            raise too_small(kind, types, needed, spot, "backends.gcp.machine_types", name)


def _elsewhere(fit: Sequence[MachineType], zones: Sequence[str], spot: bool) -> ConfigError:
    best = fit[0]
    there = sorted(best.places, key=lambda place: place.cost(spot) or float("inf"))
    names = [zone for place in there for zone in place.zones][:8]
    return ConfigError(
        f"none of these zones has {best}",
        field="backends.gcp.zones",
        value=", ".join(zones),
        allowed=f"zones that have it, cheapest first: {', '.join(names)}",
        hint="change zones, or resources",
    )


def _nearby(fit: Sequence[MachineType], needed: Hardware, spot: bool) -> list[MachineType]:
    """Returns the types of the nearest region that has one, with the zones of that region."""
    home = _default_zones()[0].partition("-")[0]
    places = [place for kind in fit for place in kind.places]

    def distance(place: Place) -> tuple[bool, float, str]:
        abroad = place.region.partition("-")[0] != home
        return abroad, place.cost(spot) or float("inf"), place.region

    region = min(places, key=distance).region
    zones = [zone for place in places if place.region == region for zone in place.zones]
    return _fitting_in(fit, zones, needed, spot)


def _fitting_in(
    fit: Sequence[MachineType], zones: Sequence[str], needed: Hardware, spot: bool
) -> list[MachineType]:
    here = fitting((_in_zones(kind, zones) for kind in fit), needed, spot)
    return [kind for kind in here if kind.places]


def _in_zones(kind: MachineType, zones: Sequence[str]) -> MachineType:
    """The type with only the places that have one of the zones."""
    regions = {zone.rpartition("-")[0] for zone in zones}
    places = tuple(
        dataclasses.replace(place, zones=tuple(z for z in place.zones if z in zones))
        for place in kind.places
        if place.region in regions and (not place.zones or set(place.zones) & set(zones))
    )
    return dataclasses.replace(kind, places=places)


def _bringing(name: str, known: Machine) -> MachineType:
    settings: JsonObject = {"machine_types": [name], "gpu_type": None, "gpu_count": None}
    if "disk_type" in known:
        settings["disk_type"] = known["disk_type"]
    return MachineType(
        name,
        known["cpus"],
        known["memory_gb"],
        known["gpu"],
        known["gpus"],
        _places(
            table()["zones"][known["zones"]],
            lambda region: prices.price(name, region, False),
            prices.parts(name),
        ),
        settings,
        known.get("only_spot", False),
        f"{known['source']}, {table()['date']}",
    )


def _attached() -> Iterable[MachineType]:
    """N1 machines with the GPUs that can be attached to them."""
    memory = prices.table()["families"]["n1"]
    for model, attachable in table()["attachable"].items():
        accelerator = table()["accelerators"][model]
        zones = table()["zones"][attachable["zones"]]
        for count, kind, cpus in (
            (int(count), kind, cpus)
            for count, kinds in attachable["counts"].items()
            for kind, sizes in kinds.items()
            for cpus in sizes
        ):
            name = f"n1-{kind}-{cpus}"
            yield MachineType(
                f"{name} + {count} x {accelerator}",
                cpus,
                cpus * memory[kind],
                model,
                count,
                _places(
                    zones,
                    partial(_attached_price, name, accelerator, count),
                    {**prices.parts(name), accelerator: float(count)},
                ),
                {"machine_types": [name], "gpu_type": accelerator, "gpu_count": count},
                source=f"{attachable['source']}, {table()['date']}",
            )


def _attached_price(name: str, accelerator: str, count: int, region: str) -> float | None:
    host = prices.price(name, region, False)
    gpu = prices.gpu_price(accelerator, region, False)
    return None if host is None or gpu is None else host + count * gpu


def _plain() -> Iterable[MachineType]:
    """Types without GPUs; all regions have them."""
    families, regions = prices.table()["families"], prices.table()["regions"]
    for family, kinds in table()["families"].items():
        for kind, cpus in ((kind, cpus) for kind, sizes in kinds.items() for cpus in sizes):
            if kind not in families.get(family, {}):
                continue  # a price list of the user's own can lack it
            name = f"{family}-{kind}-{cpus}"
            yield MachineType(
                name,
                cpus,
                cpus * families[family][kind],
                places=tuple(
                    Place(
                        region,
                        (),
                        prices.price(name, region, False),
                        prices.spot_price(prices.parts(name), region),
                    )
                    for region in regions
                ),
                settings={"machine_types": [name], "gpu_type": None, "gpu_count": None},
                source=f"families, {table()['date']}",
            )


def _places(
    zones: Iterable[str], price: Callable[[str], float | None], billed: dict[str, float]
) -> tuple[Place, ...]:
    regions: dict[str, list[str]] = {}
    for zone in zones:
        regions.setdefault(zone.rpartition("-")[0], []).append(zone)
    return tuple(
        Place(region, tuple(names), price(region), prices.spot_price(billed, region))
        for region, names in regions.items()
    )


def _default_zones() -> list[str]:
    return _texts(GcpConfig.model_fields["zones"].get_default(call_default_factory=True))


def _texts(value: Json) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


class GoogleMachines:
    """What ``GcpBackend`` answers before there is an instance of it."""

    machine_types = staticmethod(machine_types)
    choose_machines = staticmethod(choose)
    fetch_prices = staticmethod(refresh.fetch)

    @classmethod
    def packing(cls, resolved: JsonObject) -> Packing:
        """See ``PacksRuns``."""
        known = {kind.name.split()[0]: kind.memory_gb for kind in machine_types().types}
        names = _texts(resolved.get("machine_types"))
        runs = as_integer(resolved.get(NAMES.per_machine)) or 1
        return Packing(runs, {name: known.get(name) for name in names})
