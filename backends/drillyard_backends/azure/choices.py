"""Lists of sizes and regions: each pair is a place of its own, with a cluster of its own.

A cluster has one size, one priority and one region for ever, and a job waits in the queue of its
cluster as long as Azure has no node for it. So the core chooses: it rents the cheapest pair, and
the next one when ``tend`` raises ``NoCapacity``.
"""

from __future__ import annotations

import hashlib
from itertools import product

from drillyard.backend import Alternative
from drillyard.documents.json_types import Json, JsonObject
from drillyard_backends.azure.naming import cluster_of_size
from drillyard_backends.azure.settings import AzureConfig

ELSEWHERE_S = 900.0
"""How long jobs wait for a first node if there is another place, in seconds."""

_SHOWN = 16
"""Characters of a size's and a priority's name that a region's cluster shows."""


def alternatives(resolved: JsonObject, others: bool) -> list[Alternative]:
    """See ``drillyard.backend.HasAlternatives``."""
    sizes = _listed(resolved, "vm_sizes", "vm_size")
    regions = _listed(resolved, "locations", "location")
    several = len(sizes) * len(regions) > 1
    options = []
    for size, region in product(sizes, regions):
        chosen: JsonObject = {}
        words = [text for text, many in ((size, sizes), (region, regions)) if len(many) > 1]
        if several or resolved.get("vm_sizes") or resolved.get("locations"):
            chosen = {"vm_sizes": [], "locations": [], "vm_size": size}
            chosen |= {} if region is None else {"location": region}
        if several:
            chosen["compute"] = _cluster(resolved, str(size), region)
        if (several or others) and resolved.get("capacity_s") is None:
            chosen["capacity_s"] = ELSEWHERE_S
        options.append(Alternative(", ".join(map(str, words)), chosen))
    return options


def _listed(resolved: JsonObject, many: str, one: str) -> list[Json]:
    listed = resolved.get(many)
    if isinstance(listed, list) and listed:
        return listed
    return [resolved.get(one) or AzureConfig.model_fields[one].default]


def _cluster(resolved: JsonObject, size: str, region: Json) -> str | None:
    """The name of a pair's cluster: kept, as a named one is, unless each lease has its own."""
    if resolved.get("compute", "drillyard") is None:
        return None
    name = cluster_of_size(size, bool(resolved.get("low_priority", True)))
    if region is None:
        return name
    # Names are unique in a region and have at most 24 characters. What is cut off tells sizes and
    # priorities apart.
    apart = str(region).lower() + name[_SHOWN:]
    return f"{name[:_SHOWN]}-r{hashlib.sha256(apart.encode()).hexdigest()[:6]}"
