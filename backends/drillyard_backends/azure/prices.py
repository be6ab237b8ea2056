"""What nodes cost: a dated table, good enough to refuse an order that costs ten times too much.

An approximation of public list prices of Linux machines in West Europe, without discounts;
``DRILLYARD_AZURE_PRICES`` names another file with the same keys to use instead.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from drillyard.backend import Egress
from drillyard.documents.json_types import JsonObject, as_list, as_number, as_object
from drillyard_backends.pricelists import PriceList

OVERRIDE = "DRILLYARD_AZURE_PRICES"


class Table(TypedDict):
    """A price list."""

    date: str
    currency: str
    sizes: dict[str, float]
    """Size -> hourly price of a dedicated node."""
    low_priority: float
    """Factor for low-priority nodes."""
    by_region: NotRequired[dict[str, dict[str, float]]]
    """Region -> size -> hourly price of a dedicated node."""
    low_priority_by_region: NotRequired[dict[str, dict[str, float]]]
    """Region -> size -> hourly price of a low-priority node."""


EGRESS = Egress(0.087, "USD", "2026-11")
"""Data that leaves Azure from North America or Europe, above the 100 GB a month that are free, up
to 10 TB. *Assumed*: from articles about Azure's prices, not from Microsoft's own page."""
LIST: PriceList[Table] = PriceList("drillyard_backends.azure", OVERRIDE, "azure")
date, currency = LIST.date, LIST.currency


def price(size: str, low_priority: bool, region: str | None = None) -> float | None:
    """Returns the hourly price of a node; None for an unknown size.

    Args:
        size: ``Standard_F4s_v2``; upper and lower case are equal.
        low_priority: True for a node that may be preempted.
        region: Such as ``eastus``, with the price of West Europe if the list has no other; None:
            West Europe, or the most expensive region that the list knows the size in.
    """
    table = LIST.table()
    share = float(table["low_priority"]) if low_priority else 1.0
    if low_priority:
        exact = _regional(table.get("low_priority_by_region", {}), size)
        if listed_low := _highest(exact, region):
            return listed_low
    listed = _regional(table.get("by_region", {}), size)
    west_europe = {name.lower(): float(value) for name, value in table["sizes"].items()}
    if region is None:
        known = west_europe.get(size.lower()) or _highest(listed, None)
    else:
        known = listed.get(region) or west_europe.get(size.lower())
    return None if known is None else known * share


def sizes() -> list[str]:
    """Returns every size that the list in use has a price of."""
    table = LIST.table()
    return sorted({*table["sizes"], *(s for r in table.get("by_region", {}).values() for s in r)})


def regions(size: str) -> dict[str, tuple[float | None, float | None]]:
    """Returns the prices of a dedicated and a low-priority node by region."""
    listed = _regional(LIST.table().get("by_region", {}), size)
    return {name: (price(size, False, name), price(size, True, name)) for name in listed}


def _regional(table: dict[str, dict[str, float]], size: str) -> dict[str, float]:
    """Returns the prices of one size by region."""
    return {
        region: float(value)
        for region, sizes in table.items()
        for name, value in sizes.items()
        if name.lower() == size.lower()
    }


def _highest(prices: dict[str, float], region: str | None) -> float | None:
    return max(prices.values(), default=None) if region is None else prices.get(region)


def listed_price(size: JsonObject, low_priority: bool) -> float | None:
    """Returns the hourly price that the service lists with a size; None if it lists none.

    Args:
        size: An entry of the list of sizes, with ``estimatedVMPrices``.
        low_priority: True for a node that may be preempted.
    """
    listed = as_object(size.get("estimatedVMPrices"))
    if (listed.get("billingCurrency"), listed.get("unitOfMeasure")) != (currency(), "OneHour"):
        return None
    tier = "LowPriority" if low_priority else "Standard"
    prices = [
        as_number(row.get("retailPrice")) or 0.0
        for row in map(as_object, as_list(listed.get("values")))
        if (row.get("osType"), row.get("vmTier")) == ("Linux", tier)
    ]
    return max(prices, default=0.0) or None
