"""What nodes cost: a dated table, good enough to refuse an order that costs ten times too much.

An approximation of public list prices of Linux machines in West Europe, without discounts;
``DRILLYARD_AZURE_PRICES`` names another file with the same keys to use instead.
"""

from __future__ import annotations

from typing import TypedDict

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


_list: PriceList[Table] = PriceList("drillyard_backends.azure", OVERRIDE)


def date() -> str:
    """Returns the date of the list."""
    return str(_list.table()["date"])


def currency() -> str:
    """Returns the currency of the list."""
    return str(_list.table()["currency"])


def price(size: str, low_priority: bool) -> float | None:
    """Returns the hourly price of a node; None for an unknown size.

    Args:
        size: ``Standard_F4s_v2``; upper and lower case are equal.
        low_priority: True for a node that may be preempted.
    """
    table = _list.table()
    known = {name.lower(): float(value) for name, value in table["sizes"].items()}
    dedicated = known.get(size.lower())
    share = float(table["low_priority"]) if low_priority else 1.0
    return None if dedicated is None else dedicated * share


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
