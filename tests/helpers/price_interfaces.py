"""The public price interfaces of Google and Azure on loopback, with answers as documented.

Google: https://cloud.google.com/billing/v1/how-tos/catalog-api. Azure:
https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices. Prices of
single SKUs are those that public tools recorded (Nvidia Tesla A100 GPU, 2023-03-24; H100, H200 and
B200, 2026-07-07; F16s Spot in Microsoft's own example, 2020-08-01).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.helpers.answering import Request, answering

KEY = "a-key-for-tests"


def sku(
    description: str,
    price: float,
    usage: str = "OnDemand",
    *regions: str,
    unit: str = "h",
    currency: str = "USD",
) -> dict[str, Any]:
    """One SKU as Google lists it."""
    units = int(price)
    return {
        "name": "services/6F81-5844-456A/skus/039F-D0DA-4055",
        "skuId": "039F-D0DA-4055",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": "GPU",
            "usageType": usage,
        },
        "serviceRegions": list(regions) or ["us-central1", "us-east1", "us-west1"],
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": unit,
                    "displayQuantity": 1,
                    "tieredRates": [
                        {
                            "startUsageAmount": 0,
                            "unitPrice": {
                                "currencyCode": currency,
                                "units": str(units),
                                "nanos": round((price - units) * 1e9),
                            },
                        }
                    ],
                    "usageUnitDescription": "hour",
                    "baseUnit": "s",
                    "baseUnitDescription": "second",
                    "baseUnitConversionFactor": 3600,
                },
                "currencyConversionRate": 1,
                "effectiveTime": "2023-03-24T10:52:50.681Z",
            }
        ],
        "serviceProviderName": "Google",
    }


def item(size: str, price: float, region: str = "westeurope", **more: Any) -> dict[str, Any]:
    """One item as Azure lists it."""
    short = size.removeprefix("Standard_").replace("_", " ")
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "location": "EU West",
        "effectiveStartDate": "2020-08-01T00:00:00Z",
        "meterId": "000a794b-bdb0-58be-a0cd-0c3a0f222923",
        "meterName": short,
        "productId": "DZH318Z0BQPS",
        "skuId": "DZH318Z0BQPS/00TG",
        "productName": "Virtual Machines NCasv3 T4 Series",
        "skuName": short,
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size,
        **more,
    }


@dataclass
class Interfaces:
    """What both would answer, and what they were asked."""

    skus: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    page: int = 100
    busy: int = 0
    """How many of the next requests are answered with 503."""
    broken: bool = False
    """Answers are not JSON."""
    asked: list[str] = field(default_factory=list)

    def google(self, query: dict[str, list[str]], key: str) -> tuple[int, dict[str, Any]]:
        if key != KEY:
            # https://cloud.google.com/docs/authentication/api-keys
            message = "API key not valid. Please pass a valid API key."
            return 400, {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
        start = int(query.get("pageToken", ["0"])[0])
        rest = start + self.page
        token = str(rest) if rest < len(self.skus) else ""
        return 200, {"skus": self.skus[start:rest], "nextPageToken": token}

    def azure(self, query: dict[str, list[str]], base: str) -> tuple[int, dict[str, Any]]:
        filter_ = query["$filter"][0]
        found = [i for i in self.items if f"armSkuName eq '{i['armSkuName']}'" in filter_]
        start = int(query.get("$skip", ["0"])[0])
        rest = start + self.page
        link = None
        if rest < len(found):
            link = f"{base}/api/retail/prices?$filter={filter_}&$skip={rest}"
        page = found[start:rest]
        return 200, {
            "BillingCurrency": "USD",
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": page,
            "NextPageLink": link,
            "Count": len(page),
        }


@contextmanager
def serving(interfaces: Interfaces) -> Iterator[str]:
    """Serves both on a port of the system's choice; yields their address."""

    def answer(request: Request) -> tuple[int, bytes]:
        interfaces.asked.append(request.path)
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        status, found = 404, {"error": {"message": "not found"}}
        if interfaces.busy:
            interfaces.busy -= 1
            status, found = 503, {"error": {"message": "busy"}}
        elif parts.path == "/v1/services/6F81-5844-456A/skus":
            status, found = interfaces.google(query, request.headers["X-Goog-Api-Key"] or "")
        elif parts.path == "/api/retail/prices":
            # Azure names itself with its port in the link.
            status, found = interfaces.azure(query, "https://prices.azure.com:443")
        return status, b"<html>" if interfaces.broken else json.dumps(found).encode()

    with answering(answer) as url:
        yield url
