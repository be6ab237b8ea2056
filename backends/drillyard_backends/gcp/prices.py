"""What machines cost: a dated table, good enough to refuse an order that costs ten times too much.

The table is an approximation of public list prices, without discounts; ``DRILLYARD_GCP_PRICES``
names another file with the same keys to use instead. An unknown region has the highest price.
"""

from __future__ import annotations

import re
from typing import TypedDict

from drillyard_backends.pricelists import PriceList

OVERRIDE = "DRILLYARD_GCP_PRICES"
HOURS_A_MONTH = 730.0
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
    spot_factor: float


_list: PriceList[Table] = PriceList("drillyard_backends.gcp", OVERRIDE)


def table() -> Table:
    """Returns the price list in use.

    Raises:
        ConfigError: ``DRILLYARD_GCP_PRICES`` does not name a price list.
    """
    return _list.table()


def date() -> str:
    """Returns the date of the list."""
    return str(table()["date"])


def currency() -> str:
    """Returns the currency of the list."""
    return str(table()["currency"])


def price(machine_type: str, region: str, spot: bool) -> float | None:
    """Returns the hourly price of a machine with its GPUs; None for an unknown type.

    Args:
        machine_type: ``n2-highcpu-8``, ``e2-custom-4-8192``, ``g2-standard-4``.
        region: Such as ``europe-west1``.
        spot: True for a Spot machine.
    """
    base = _base(machine_type)
    return None if base is None else base * _factor(region, spot)


def gpu_price(gpu_type: str, region: str, spot: bool) -> float | None:
    """Returns the hourly price of an attached GPU; None for an unknown type."""
    base = table()["gpus"].get(gpu_type)
    return None if base is None else float(base) * _factor(region, spot)


def disk_price(disk_type: str, region: str) -> float | None:
    """Returns the monthly price of a GB of a disk; None for an unknown type."""
    base = table()["disks"].get(disk_type)
    return None if base is None else float(base) * _factor(region, False)


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


def _factor(region: str, spot: bool) -> float:
    prices = table()
    factor = float(prices["regions"].get(region, prices["other_regions"]))
    return factor * (float(prices["spot_factor"]) if spot else 1.0)
