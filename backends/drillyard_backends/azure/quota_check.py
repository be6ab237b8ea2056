"""Checks that a region has the nodes of an order: their size, its capabilities, and the quota."""

from __future__ import annotations

from collections.abc import Iterator

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject, as_integer, as_list
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard_backends.azure import prices, quota
from drillyard_backends.azure.errors import Forbidden
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

HIGHER, MUCH_HIGHER = 1.1, 2.0
"""Factors of the listed price: above the first drillyard warns, above the second it refuses."""
READS = [
    f"Microsoft.MachineLearningServices/locations/{name}/read" for name in ("usages", "vmSizes")
]


def of_nodes(
    service: Service, config: AzureConfig, order: Order | None, location: str, workers: int
) -> Iterator[Finding]:
    """Checks a cluster's nodes.

    Args:
        service: Sends the requests.
        config: The settings.
        order: The order; None for nodes of any run.
        location: Region of the workspace.
        workers: Number of nodes.
    """
    gpus = 0 if order is None else order.gpus
    low = config.low_priority
    return of_size(
        service, location, config.vm_size, "vm_size", workers, low_priority=low, gpus=gpus
    )


def of_size(
    service: Service,
    location: str,
    name: str,
    field: str,
    nodes: int,
    *,
    low_priority: bool,
    gpus: int = 0,
) -> Iterator[Finding]:
    """Checks machines of one size.

    Args:
        service: Sends the requests.
        location: Region of the machines.
        name: Name of the size.
        field: The setting that names it.
        nodes: Number of machines.
        low_priority: True for low-priority machines.
        gpus: Number of GPUs that each of them needs.
    """
    try:
        size = service.sizes(location).get(name.lower())
        usages = quota.rows(service.usages(location))
    except Forbidden as error:
        # They belong to the subscription, where a role in the workspace does not count.
        yield warning(
            "quota",
            f"size and quota cannot be checked: {error.message}",
            f"grant {' and '.join(READS)} on the subscription (deployments/azure/quota-role.json)",
        )
        return
    if size is None:
        yield problem(
            field,
            f"{name} is not available in {location}",
            f"az ml compute list-sizes --location {location} lists the available sizes",
        )
        return
    yield from _suits(size, name, field, low_priority, gpus)
    if field == "vm_size":
        yield from _higher_price(size, name, low_priority)
    cores = as_integer(size.get("vCPUs")) or 0
    yield from _fits(usages, size, location, field, nodes, cores, low_priority)


def of_build(service: Service, location: str) -> Iterator[Finding]:
    """Checks that Azure has cores to build an image on: dedicated ones, whatever the nodes are.

    Source: https://learn.microsoft.com/azure/machine-learning/concept-environments, "By default,
    AzureML will manage image build target on available workspace serverless compute quota"; as of
    commit f44baff of MicrosoftDocs/azure-docs, read 2026-11-26.

    Args:
        service: Sends the requests.
        location: Region of the workspace.
    """
    for row in quota.of(quota.rows(service.usages(location)), "", low_priority=False):
        if row.free == 0:
            yield warning(
                "build",
                f"{row.name}: 0 of {row.limit} cores are free in {location}; Azure may build the "
                "image on dedicated cores, also for low-priority nodes",
                f"request a few: https://ml.azure.com/quota (region {location}); or set "
                "`image` to an image that is built elsewhere",
            )


def _suits(
    size: JsonObject, name: str, field: str, low_priority: bool, gpus: int
) -> Iterator[Finding]:
    """Checks what the service says about a size; it was wrong about low priority both ways."""
    kinds = [str(kind) for kind in as_list(size.get("supportedComputeTypes"))]
    if field == "vm_size" and kinds and "amlcompute" not in map(str.lower, kinds):
        yield problem(
            field,
            f"{name} is not available in a compute cluster, only as {', '.join(kinds)}",
            "another vm_size",
        )
    if low_priority and size.get("lowPriorityCapable") is False:
        yield warning(
            field,
            f"Azure ML does not list {name} at low priority: its nodes may never start",
            "low_priority: false; or another vm_size",
        )
    available = as_integer(size.get("gpus"))
    if gpus and available is not None and available < gpus:
        has = f"has {available}" if available else "has none"
        yield problem(
            "gpus",
            f"each run needs {gpus} GPU, and a node {name} {has}",
            "a vm_size with GPUs (Standard_NC4as_T4_v3, say); or resources.device: cpu",
        )


def _higher_price(size: JsonObject, name: str, low_priority: bool) -> Iterator[Finding]:
    """Compares Azure's price with the price list, on which ``max_cost`` relies."""
    expected = prices.price(name, low_priority)
    actual = prices.listed_price(size, low_priority)
    if expected is None or actual is None or actual <= HIGHER * expected:
        return
    yield Finding(
        Severity.ERROR if actual > MUCH_HIGHER * expected else Severity.WARNING,
        "prices",
        f"{name} costs {actual:g} {prices.currency()} per hour at Azure, and {expected:g} in the "
        f"price list of {prices.date()}: a run could cost {actual / expected:.1f} times max_cost",
        f"{prices.OVERRIDE}=FILE with that price; or another vm_size",
    )


def _fits(
    usages: list[quota.Row],
    size: JsonObject,
    location: str,
    field: str,
    nodes: int,
    cores: int,
    low_priority: bool,
) -> Iterator[Finding]:
    family = str(size.get("family") or "")
    rows = quota.of(usages, family, low_priority=low_priority)
    kind = "low-priority" if low_priority else f"dedicated {family}"
    ask = f"request more: https://ml.azure.com/quota (region {location})"
    known = [row for row in rows if row.family or low_priority]
    if not known or not cores:
        yield warning(
            "quota",
            f"Azure lists no quota of {kind} cores in {location}: nodes may never start",
            ask,
        )
    needed = nodes * cores
    limited = [(row.free, row.limit or 0, row.name) for row in rows if row.free is not None]
    if not limited:
        if known:
            yield passed("quota", f"{needed} {kind} cores; there is no limit")
        return
    free, limit, name = min(limited)
    numbers = f"{needed} cores of {name} for {nodes} nodes; {free} of {limit} are free"
    if limit < cores:
        what = "the quota is 0" if not limit else "the quota is too small for a node"
        yield problem("quota", f"{what}: {numbers}", ask)
    elif free < needed:
        fewer = f"resources.workers: {max(1, free // cores)}; or "
        fix = ask if field != "vm_size" else fewer + ask
        yield problem("quota", f"too small: {numbers}", fix)
    else:
        yield passed("quota", numbers)
