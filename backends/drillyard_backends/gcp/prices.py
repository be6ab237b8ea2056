"""What machines cost: a dated table, good enough to refuse an order that is ten times too dear.

The table is an approximation of public list prices, without discounts; ``DRILLYARD_GCP_PRICES``
names a file of the same form to use instead. An unknown region is taken as dear as the dearest.
"""

from __future__ import annotations

import re
from typing import Any

from drillyard_backends.pricelists import PriceList

OVERRIDE = "DRILLYARD_GCP_PRICES"
HOURS_A_MONTH = 730.0
_SIZED = re.compile(
    r"(?P<family>[a-z]\d[a-z]?)-(?P<kind>standard|highmem|highcpu)-(?P<cpus>\d+)\Z"
)
_CUSTOM = re.compile(r"(?:(?P<family>[a-z]\d[a-z]?)-)?custom-(?P<cpus>\d+)-(?P<mb>\d+)(?:-ext)?\Z")


_list = PriceList("drillyard_backends.gcp", OVERRIDE)


def table() -> dict[str, Any]:
    """The price list in force.

    Raises:
        ConfigError: ``DRILLYARD_GCP_PRICES`` names no such list.
    """
    return _list.table()


def date() -> str:
    """Of the list in force."""
    return str(table()["date"])


def currency() -> str:
    """Of the list in force."""
    return str(table()["currency"])


def price(machine_type: str, region: str, spot: bool) -> float | None:
    """A machine an hour, with the GPUs that it brings; None for an unknown type.

    Args:
        machine_type: ``n2-highcpu-8``, ``e2-custom-4-8192``, ``g2-standard-4``.
        region: Such as ``europe-west1``.
        spot: True for a Spot machine.
    """
    found = _base(machine_type)
    return None if found is None else found * _factor(region, spot)


def gpu_price(gpu_type: str, region: str, spot: bool) -> float | None:
    """A GPU that is attached, an hour; None for an unknown type."""
    found = table()["gpus"].get(gpu_type)
    return None if found is None else float(found) * _factor(region, spot)


def disk_price(disk_type: str, region: str) -> float | None:
    """A GB of a disk for a month; None for an unknown kind."""
    found = table()["disks"].get(disk_type)
    return None if found is None else float(found) * _factor(region, False)


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
