"""What nodes cost: a dated table, good enough to refuse an order that is ten times too dear.

An approximation of public list prices of Linux machines in West Europe, without discounts;
``DRILLYARD_AZURE_PRICES`` names a file of the same form to use instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drillyard_backends.pricelists import PriceList

OVERRIDE = "DRILLYARD_AZURE_PRICES"
_list = PriceList("drillyard_backends.azure", OVERRIDE)


def date() -> str:
    """Of the list in force."""
    return str(_list.table()["date"])


def currency() -> str:
    """Of the list in force."""
    return str(_list.table()["currency"])


def price(size: str, low_priority: bool) -> float | None:
    """A node an hour; None for an unknown size.

    Args:
        size: ``Standard_F4s_v2``; capitals do not matter.
        low_priority: For one that may be taken away.
    """
    table = _list.table()
    known = {name.lower(): float(value) for name, value in table["sizes"].items()}
    found = known.get(size.lower())
    share = float(table["low_priority"]) if low_priority else 1.0
    return None if found is None else found * share


def told(size: Mapping[str, Any], low_priority: bool) -> float | None:
    """A node an hour as the service tells it with its sizes; None where it does not.

    Args:
        size: Of the list of sizes: ``estimatedVMPrices``.
        low_priority: For one that may be taken away.
    """
    found = size.get("estimatedVMPrices") or {}
    form = found.get("billingCurrency"), found.get("unitOfMeasure")
    if form != (currency(), "OneHour"):
        return None
    tier = "LowPriority" if low_priority else "Standard"
    prices = [
        float(one.get("retailPrice") or 0.0)
        for one in found.get("values") or []
        if (one.get("osType"), one.get("vmTier")) == ("Linux", tier)
    ]
    return max(prices, default=0.0) or None
