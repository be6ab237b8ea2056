"""Google's list prices from the Cloud Billing Catalog API.

Source of the form: https://cloud.google.com/billing/v1/how-tos/catalog-api (the answer, its pages
of at most 5000, the API key). What Google calls the parts of machines is not documented; the
descriptions below are those that public price tools match (skypilot's among them, read
2026-11-23). A part that is not recognised is left to drillyard's own table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode

from drillyard.backend import PriceUpdate
from drillyard.documents.json_types import JsonObject, as_list, as_number, as_object
from drillyard.errors import ConfigError, ControlPlaneError
from drillyard_backends import price_pages
from drillyard_backends.gcp import machine_table, prices

API = "https://cloudbilling.googleapis.com"
API_VARIABLE = "DRILLYARD_GCP_PRICES_API"
COMPUTE_ENGINE = "services/6F81-5844-456A"
"""Id of Compute Engine among the services."""
_SPOT = re.compile(r"\ASpot Preemptible ")
_PART = re.compile(
    r"(?P<family>E2|N1 Predefined|N2|N2D AMD|A2|A3|G2|C2D AMD|C3|C4|N4|T2D AMD)"
    r" Instance (?P<part>Core|Ram) running in "
)
_GPU = re.compile(
    r"(?:A4 )?(?:Nvidia )?(?:Tesla )?"
    r"(?P<gpu>T4|L4|A100 80GB|A100|H100 80GB|H200 141GB|B200)"
    r"(?: GPU| \(1 gpu slice\))(?: attached to Spot Preemptible VMs)? running in "
)
_SSD = re.compile(r"SSD backed Local Storage(?: attached to Spot Preemptible VMs)?(?: in .*)?\Z")
_MODELS = {"A100 80GB": "A100-80GB", "H100 80GB": "H100", "H200 141GB": "H200"}
_USAGES = {"OnDemand": "on_demand", "Preemptible": "spot"}


def fetch(key: str | None = None) -> PriceUpdate:
    """Returns the price list that Google answers with.

    Args:
        key: An API key of any project in which the Cloud Billing API is enabled.

    Raises:
        ConfigError: There is no key, or Google refuses it.
        ControlPlaneError: Google does not answer, or lists no price of a machine.
    """
    if not key:
        raise ConfigError(
            "Google's price interface wants an API key",
            field="--key",
            allowed="a reference: env:NAME, file:PATH, secret:NAME",
            hint="enable cloudbilling.googleapis.com in a project, make a key (gcloud services "
            "api-keys create), and give it: --key env:NAME",
        )
    skus: dict[str, dict[str, dict[str, float]]] = {usage: {} for usage in _USAGES.values()}
    count = 0
    for sku in _skus(key):
        usage = _USAGES.get(str(as_object(sku.get("category")).get("usageType")))
        part = part_of(str(sku.get("description", "")))
        price = None if part is None else _price(sku, part)
        if usage is None or part is None or price is None:
            continue
        for region in as_list(sku.get("serviceRegions")):
            listed = skus[usage].setdefault(str(region), {})
            # Several SKUs of a part: the higher price, to be on the careful side.
            listed[part] = max(price, listed.get(part, 0.0))
            count += 1
    if not skus["on_demand"]:
        raise ControlPlaneError(
            "Google listed no price of a machine that drillyard knows",
            hint="the table stays as it is; report this: the interface may have changed",
        )
    date = datetime.now(UTC).date().isoformat()
    note = f"Cloud Billing Catalog API, {date}; what it does not list is drillyard's own table"
    by_usage: JsonObject = {
        usage: {region: {**parts} for region, parts in regions.items()}
        for usage, regions in skus.items()
    }
    table: JsonObject = {
        **prices.LIST.package_list(),
        "date": date,
        "base_date": prices.LIST.package_list()["date"],
        "note": note,
        "skus": by_usage,
    }
    return PriceUpdate(table, count, tuple(_missing(skus["on_demand"])))


def part_of(description: str) -> str | None:
    """Returns the part of a machine that a SKU is the price of; None for any other SKU."""
    text = _SPOT.sub("", description)
    if match := _PART.match(text):
        return f"{match['family'].split()[0].lower()} {match['part'].lower()}"
    if match := _GPU.match(text):
        model = _MODELS.get(match["gpu"], match["gpu"])
        return machine_table.table()["accelerators"][model]
    return "local-ssd" if _SSD.match(text) else None


def _price(sku: JsonObject, part: str) -> float | None:
    """Returns the price of a unit in USD; None if the SKU has none, or another unit.

    Of several tiers it is the highest: no tier of a machine's part is known to exist.
    """
    expression = as_object(
        as_object(next(iter(as_list(sku.get("pricingInfo"))), None)).get("pricingExpression")
    )
    # "h" and "GiBy.h"; local SSDs have "GiBy.mo"
    _, _, time = str(expression.get("usageUnit", "")).rpartition(".")
    if time != ("mo" if part == "local-ssd" else "h"):
        return None
    rates = []
    for rate in map(as_object, as_list(expression.get("tieredRates"))):
        unit = as_object(rate.get("unitPrice"))
        if unit.get("currencyCode", "USD") != "USD":
            return None
        try:
            whole = int(str(unit.get("units") or 0))
        except ValueError:
            return None
        rates.append(whole + (as_number(unit.get("nanos")) or 0.0) / 1e9)
    price = max(rates, default=0.0)
    return price if 0.0 < price < math.inf else None  # SKUs for free are not those of machines


def _skus(key: str) -> Iterator[JsonObject]:
    base = f"{price_pages.base(API_VARIABLE, API)}/v1/{COMPUTE_ENGINE}/skus?"
    query = {"currencyCode": "USD", "pageSize": "5000"}

    def following(page: JsonObject) -> str | None:
        token = page.get("nextPageToken")
        return base + urlencode({**query, "pageToken": token}) if token else None

    return price_pages.entries(base + urlencode(query), "skus", following, {"X-Goog-Api-Key": key})


def _missing(regions: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yields the types of the table that no region has all prices for."""
    for name in machine_table.table()["machines"]:
        billed = prices.parts(name).keys()
        if not any(billed <= listed.keys() for listed in regions.values()):
            yield name
