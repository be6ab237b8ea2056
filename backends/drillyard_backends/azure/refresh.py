"""Azure's list prices from the Retail Prices API, which needs no key.

Source of the form: https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices
(the filter, whose values are case-sensitive, the fields of an item, ``NextPageLink``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

from drillyard.backend import PriceUpdate
from drillyard.documents.json_types import JsonObject, as_number, as_object
from drillyard.errors import ControlPlaneError
from drillyard_backends import price_pages
from drillyard_backends.azure import prices

API = "https://prices.azure.com"
API_VARIABLE = "DRILLYARD_AZURE_PRICES_API"
SIZES_A_QUERY = 8
HOME = "westeurope"
"""Region of the prices for nodes whose region is not known."""


def fetch(sizes: Sequence[str]) -> PriceUpdate:
    """Returns the price list that Azure answers with.

    Args:
        sizes: Names of the sizes to ask for, as Azure writes them.

    Raises:
        ControlPlaneError: Azure does not answer, or lists no price of a machine.
    """
    dedicated: dict[str, dict[str, float]] = {}
    low: dict[str, dict[str, float]] = {}
    for start in range(0, len(sizes), SIZES_A_QUERY):
        for item in _items(sizes[start : start + SIZES_A_QUERY]):
            kind = _kind(item)
            price = as_number(item.get("retailPrice"))
            region, size = str(item.get("armRegionName") or ""), str(item.get("armSkuName"))
            if kind is None or price is None or not 0.0 < price < math.inf or not region:
                continue
            # Several meters of a size: the higher price, to be on the careful side.
            listed = (low if kind else dedicated).setdefault(region, {})
            listed[size] = max(price, listed.get(size, 0.0))
    if not dedicated:
        raise ControlPlaneError(
            "Azure listed no price of a machine that drillyard knows",
            hint="the table stays as it is; report this: the interface may have changed",
        )
    known = {size for listed in dedicated.values() for size in listed}
    date = datetime.now(UTC).date().isoformat()
    ours = prices.LIST.package_list()
    table: JsonObject = {
        **ours,
        "note": f"USD an hour, Linux, pay as you go: Azure Retail Prices API, {date}; `sizes` are "
        "those of West Europe",
        "sources": {"by_region": f"{API}, {date}"},
        "date": date,
        "sizes": {**as_object(ours["sizes"]), **dedicated.get(HOME, {})},
        "by_region": {region: {**listed} for region, listed in sorted(dedicated.items())},
        "low_priority_by_region": {region: {**listed} for region, listed in sorted(low.items())},
    }
    missing = tuple(size for size in sizes if size not in known)
    count = sum(map(len, dedicated.values())) + sum(map(len, low.values()))
    return PriceUpdate(table, count, missing)


def _kind(item: JsonObject) -> bool | None:
    """Returns False for a dedicated Linux machine, True for low priority; None for the rest."""
    names = f"{item.get('skuName')} {item.get('meterName')}"
    if (item.get("type"), item.get("unitOfMeasure")) != ("Consumption", "1 Hour"):
        return None
    if item.get("currencyCode") != "USD" or "Windows" in str(item.get("productName")):
        return None
    if "Spot" in names:
        return None  # Azure ML has low priority, at prices of its own
    return "Low Priority" in names


def _items(sizes: Sequence[str]) -> Iterator[JsonObject]:
    base = f"{price_pages.base(API_VARIABLE, API)}/api/retail/prices?"
    names = " or ".join(f"armSkuName eq '{size}'" for size in sizes)
    text = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and ({names})"

    def following(page: JsonObject) -> str | None:
        link = str(page.get("NextPageLink") or "")
        # The next address is Azure's own; another host is never asked.
        _, _, query = link.partition("/api/retail/prices?")
        if link and not query:
            raise ControlPlaneError(f"Azure's next page is {link!r}", hint="try again later")
        return base + query.replace(" ", "%20") if query else None

    return price_pages.entries(base + urlencode({"$filter": text}), "Items", following)
