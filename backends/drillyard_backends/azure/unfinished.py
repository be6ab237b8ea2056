"""Endpoints that a killed ``deploy-policy`` left half made: `reap` finds and ends them.

While an endpoint is made or changed it carries a tag that says until when. One whose time is over
is listed as a lease of its own, whose id is computed from the endpoint's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject
from drillyard_backends.azure import naming
from drillyard_backends.azure.clusters import stamp
from drillyard_backends.azure.errors import Exists, Forbidden, Missing
from drillyard_backends.azure.rest import section
from drillyard_backends.azure.service import Service

MARK = "endpoint"
"""Value of the tag ``drillyard`` of every endpoint of ours."""


def lease_id(path: str) -> str:
    """Under which an endpoint that is being made is listed."""
    return f"dy-{hashlib.sha256(path.lower().encode()).hexdigest()[:10]}"


def listed(service: Service) -> Iterator[tuple[Order, float]]:
    """What is being made, and since when; nothing for who may not see endpoints."""
    for endpoint in _ours(service):
        until = str(section(endpoint, "tags").get(naming.UNTIL_TAG, ""))
        if until.isdigit():
            path = f"{service.root}/onlineEndpoints/{endpoint['name']}"
            made_at = stamp(section(endpoint, "systemData").get("createdAt"))
            order = Order(
                lease_id=lease_id(path), experiment="", store_url="", deadline=float(until)
            )
            yield order, made_at


def end(service: Service, wanted: str) -> None:
    """Delete what of an endpoint does not answer; all of it, if nothing does. Safe to repeat.

    Args:
        service: Sends the requests.
        wanted: Id of the lease as which it is listed.
    """
    for endpoint in _ours(service):
        path = f"{service.root}/onlineEndpoints/{endpoint['name']}"
        if lease_id(path) != wanted or naming.UNTIL_TAG not in section(endpoint, "tags"):
            continue
        properties = section(endpoint, "properties")
        traffic = {name: share for name, share in section(properties, "traffic").items() if share}
        try:
            if not traffic:
                service.delete(path)
                return
            idle = [
                str(d["name"])
                for d in service.pages(f"{path}/deployments")
                if d["name"] not in traffic
            ]
            for name in idle:
                service.delete(f"{path}/deployments/{name}")
            if not idle:
                service.put(path, unmarked(endpoint))
        except (Exists, Missing):
            return  # it changes now, or is gone: the listing decides, and asks again


def unmarked(endpoint: JsonObject) -> JsonObject:
    """Returns an abandoned endpoint, in the form for the service.

    Args:
        endpoint: As it is described, or as it was sent.
    """
    tags = {k: v for k, v in section(endpoint, "tags").items() if k != naming.UNTIL_TAG}
    properties = section(endpoint, "properties")
    return {
        "location": endpoint["location"],
        "tags": tags,
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "authMode": properties.get("authMode", "Key"),
            "properties": {},
            "traffic": dict(section(properties, "traffic")),
        },
    }


def _ours(service: Service) -> Iterator[JsonObject]:
    try:
        for endpoint in service.pages(f"{service.root}/onlineEndpoints"):
            tags: JsonObject = {str(k): str(v) for k, v in section(endpoint, "tags").items()}
            if tags.get(naming.MARK) == MARK:
                yield {**endpoint, "tags": tags}
    except (Forbidden, Missing):
        return
