"""What machines cost: a dated table, good enough to refuse an order that costs ten times too much.

The table is an approximation of public list prices, without discounts; ``DRILLYARD_GCP_PRICES``
names another file with the same keys to use instead. An unknown region has the highest price.
"""

from __future__ import annotations

import re
from typing import NotRequired, TypedDict

from drillyard.backend import Egress
from drillyard_backends.gcp import machine_table
from drillyard_backends.pricelists import PriceList

OVERRIDE = "DRILLYARD_GCP_PRICES"
HOURS_A_MONTH = 730.0
WHOLE = frozenset({"a4"})
"""Families that Google bills by the GPU alone, with the host's share in its price."""
WITH_GPUS = ("a2-", "a3-", "a4-", "g2-", "g4-")
"""Machine types that include GPUs; ``price`` counts them."""
_SIZED = re.compile(
    r"(?P<family>[a-z]\d[a-z]?)-(?P<kind>standard|highmem|highcpu)-(?P<cpus>\d+)\Z"
)
_CUSTOM = re.compile(r"(?:(?P<family>[a-z]\d[a-z]?)-)?custom-(?P<cpus>\d+)-(?P<mb>\d+)(?:-ext)?\Z")


class Table(TypedDict):
    """A price list."""

    date: str
    currency: str
    families: dict[str, dict[str, float]]
    """Family -> prices of a ``vcpu`` and a ``gb``; GB for each vCPU by kind of machine."""
    machines: dict[str, float]
    """Machine type -> hourly price, for types that do not follow their family."""
    bundled_gpus: dict[str, int]
    """Machine type -> number of GPUs that it includes."""
    gpus: dict[str, float]
    disks: dict[str, float]
    regions: dict[str, float]
    other_regions: float
    base_date: NotRequired[str]
    """Date of the prices that are not in ``skus``, if it is another one."""
    skus: NotRequired[dict[str, dict[str, dict[str, float]]]]
    """``spot`` or ``on_demand`` -> region -> part of a machine -> price, as Google listed it."""


EGRESS = Egress(0.12, "USD", "2026-11")
"""Data that leaves Google's network, up to 1 TB a month, to the Americas and EMEA, without the
free part. Source: Google's examples, https://cloud.google.com/storage/pricing-examples."""
LIST: PriceList[Table] = PriceList("drillyard_backends.gcp", OVERRIDE, "gcp")
table, date, currency = LIST.table, LIST.date, LIST.currency


def price(machine_type: str, region: str, spot: bool) -> float | None:
    """Returns the hourly price of a machine with its GPUs; None for an unknown type.

    Where the list has no Spot price of the region it is the ordinary one, which is never less
    (https://cloud.google.com/compute/docs/instances/spot).

    Args:
        machine_type: ``n2-highcpu-8``, ``e2-custom-4-8192``, ``g2-standard-4``.
        region: Such as ``europe-west1``.
        spot: True for a Spot machine.
    """
    exact = _exact(parts(machine_type), region, spot)
    base = _base(machine_type)
    if exact is not None or base is None:
        return exact
    return base * _factor(region)


def date_of(machine_type: str, region: str, gpu_type: str | None = None) -> str:
    """Returns the date of the price of a machine, with what is attached, in a region."""
    billed = parts(machine_type)
    if billed and gpu_type:
        billed = {**billed, gpu_type: 1.0}
    listed = _sum_of_skus(billed, region, False) is not None
    return date() if listed else str(table().get("base_date", date()))


def spot_price(billed: dict[str, float], region: str) -> float | None:
    """Returns the Spot price of the parts of a machine; None where Google's list has none."""
    return _sum_of_skus(billed, region, True)


def gpu_price(gpu_type: str, region: str, spot: bool) -> float | None:
    """Returns the hourly price of an attached GPU; None for an unknown type."""
    exact = _exact({gpu_type: 1.0}, region, spot)
    base = table()["gpus"].get(gpu_type)
    if exact is not None or base is None:
        return exact
    return float(base) * _factor(region)


def parts(machine_type: str) -> dict[str, float]:
    """Returns what Google bills a machine by: part -> quantity; empty for an unknown type.

    Parts are ``n2 core``, ``n2 ram`` (GB), an accelerator type, and ``local-ssd`` (GB and month).
    """
    family = machine_type.partition("-")[0]
    known = machine_table.table()["machines"].get(machine_type)
    if known is not None:
        gpu = machine_table.table()["accelerators"][known["gpu"]]
        billed = {gpu: float(known["gpus"])}
        if family not in WHOLE:
            billed |= {f"{family} core": known["cpus"], f"{family} ram": known["memory_gb"]}
            billed["local-ssd"] = known.get("local_ssd_gb", 0) / HOURS_A_MONTH
        return {part: amount for part, amount in billed.items() if amount}
    sized = _SIZED.match(machine_type)
    per_cpu = table()["families"].get(family, {}).get(sized["kind"]) if sized else None
    if sized is None or per_cpu is None:
        return {}
    cpus = int(sized["cpus"])
    return {f"{family} core": cpus, f"{family} ram": cpus * per_cpu}


def _exact(billed: dict[str, float], region: str, spot: bool) -> float | None:
    """Returns the price that Google listed: of Spot if it is asked for and known."""
    found = spot_price(billed, region) if spot else None
    return _sum_of_skus(billed, region, False) if found is None else found


def _sum_of_skus(billed: dict[str, float], region: str, spot: bool) -> float | None:
    """Returns the exact price, if the list in use has all parts for the region."""
    usage = table().get("skus", {}).get("spot" if spot else "on_demand", {})
    prices = usage.get(region, {})
    if not billed or not billed.keys() <= prices.keys():
        return None
    return sum(amount * prices[part] for part, amount in billed.items())


def disk_price(disk_type: str, region: str) -> float | None:
    """Returns the monthly price of a GB of a disk; None for an unknown type."""
    base = table()["disks"].get(disk_type)
    return None if base is None else float(base) * _factor(region)


def _base(machine_type: str) -> float | None:
    prices = table()
    if machine_type in prices["machines"]:
        return float(prices["machines"][machine_type])
    sized, custom = _SIZED.match(machine_type), _CUSTOM.match(machine_type)
    if sized is not None:
        family = prices["families"].get(sized["family"])
        if family is None or sized["kind"] not in family:
            return None
        cpus = int(sized["cpus"])
        bundled = prices["bundled_gpus"].get(machine_type, 0) * prices["gpus"]["nvidia-l4"]
        return float(cpus * (family["vcpu"] + family[sized["kind"]] * family["gb"]) + bundled)
    if custom is not None:
        family = prices["families"].get(custom["family"] or "n1")
        if family is None:
            return None
        bare = int(custom["cpus"]) * family["vcpu"] + int(custom["mb"]) / 1024 * family["gb"]
        return float(bare * 1.05)  # custom types cost five per cent more
    return None


def _factor(region: str) -> float:
    prices = table()
    return float(prices["regions"].get(region, prices["other_regions"]))
