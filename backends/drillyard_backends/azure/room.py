"""Whether a region has the nodes of an order: their size, what it can do, and the quota."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drillyard.backend import Order
from drillyard.findings import Finding, Severity
from drillyard_backends.azure import prices, quota
from drillyard_backends.azure.errors import Forbidden
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

DEARER, MUCH_DEARER = 1.1, 2.0
"""Times the listed price: what is said, and what is refused."""
READS = [
    f"Microsoft.MachineLearningServices/locations/{one}/read" for one in ("usages", "vmSizes")
]


def of_nodes(
    service: Service, config: AzureConfig, order: Order | None, location: str, workers: int
) -> Iterator[Finding]:
    """Of a cluster's nodes.

    Args:
        service: Carries the questions.
        config: The settings.
        order: What would be rented; None: nodes for any run.
        location: Region of the workspace.
        workers: Nodes.
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
    """Of machines of one size.

    Args:
        service: Carries the questions.
        location: Region.
        name: Of the size.
        field: The setting that names it.
        nodes: How many.
        low_priority: Of which kind.
        gpus: That each of them needs.
    """
    try:
        size = service.sizes(location).get(name.lower())
        usages = quota.rows(service.usages(location))
    except Forbidden as error:
        # They are asked at the subscription, where a role in the workspace does not count.
        yield Finding(
            Severity.WARNING,
            "quota",
            f"size and quota cannot be checked: {error.message}",
            f"grant {' and '.join(READS)} on the subscription (deployments/azure/quota-role.json)",
        )
        return
    if size is None:
        yield Finding(
            Severity.ERROR,
            field,
            f"{name} is not to be had in {location}",
            f"az ml compute list-sizes --location {location} shows what is",
        )
        return
    yield from _suits(size, name, field, low_priority, gpus)
    if field == "vm_size":
        yield from _dearer(size, name, low_priority)
    cores = int(size.get("vCPUs") or 0)
    yield from _fits(usages, size, location, field, nodes, cores, low_priority)


def _suits(
    size: Mapping[str, Any], name: str, field: str, low_priority: bool, gpus: int
) -> Iterator[Finding]:
    """What the service says of a size; its word on low priority has been wrong both ways."""
    kinds = [str(one).lower() for one in size.get("supportedComputeTypes") or []]
    if field == "vm_size" and kinds and "amlcompute" not in kinds:
        yield Finding(
            Severity.ERROR,
            field,
            f"{name} cannot be had in a compute cluster, only as "
            f"{', '.join(size['supportedComputeTypes'])}",
            "another vm_size",
        )
    if low_priority and size.get("lowPriorityCapable") is False:
        yield Finding(
            Severity.WARNING,
            field,
            f"Azure ML says that {name} is not had at low priority: its nodes may never come",
            "low_priority: false; or another vm_size",
        )
    there = size.get("gpus")
    if gpus and there is not None and int(there) < gpus:
        has = f"has {there}" if int(there) else "has none"
        yield Finding(
            Severity.ERROR,
            "gpus",
            f"each run needs {gpus} GPU, and a node {name} {has}",
            "a vm_size with GPUs (Standard_NC4as_T4_v3, say); or resources.device: cpu",
        )


def _dearer(size: Mapping[str, Any], name: str, low_priority: bool) -> Iterator[Finding]:
    """``max_cost`` is kept with the price list: Azure's own price may be a higher one."""
    listed, told = prices.price(name, low_priority), prices.told(size, low_priority)
    if listed is None or told is None or told <= DEARER * listed:
        return
    yield Finding(
        Severity.ERROR if told > MUCH_DEARER * listed else Severity.WARNING,
        "prices",
        f"Azure tells {told:g} {prices.currency()} an hour for {name}, and the price list of "
        f"{prices.date()} has {listed:g}: max_cost would be passed by {told / listed:.1f} times",
        f"{prices.OVERRIDE}=FILE with that price (see docs/azure.md); or another vm_size",
    )


def _fits(
    usages: list[quota.Row],
    size: Mapping[str, Any],
    location: str,
    field: str,
    nodes: int,
    cores: int,
    low_priority: bool,
) -> Iterator[Finding]:
    family = str(size.get("family") or "")
    rows = quota.of(usages, family, low_priority=low_priority)
    kind = "low-priority" if low_priority else f"dedicated {family}"
    ask = f"ask for more: https://ml.azure.com/quota (region {location})"
    known = [row for row in rows if row.family or low_priority]
    if not known or not cores:
        yield Finding(
            Severity.WARNING,
            "quota",
            f"Azure lists no quota of {kind} cores in {location}: nodes may never come",
            ask,
        )
    wanted = nodes * cores
    limited = [(row.free, row.limit, row.name) for row in rows]
    least = min(((f, n, name) for f, n, name in limited if f is not None), default=None)
    if least is None:
        if known:
            yield Finding(Severity.OK, "quota", f"{wanted} {kind} cores; there is no limit")
        return
    free, limit, name = least
    words = f"{wanted} cores of {name} for {nodes} nodes; {free} of {limit} are free"
    if (limit or 0) < cores:
        what = "the quota is 0" if not limit else "the quota has room for no node"
        yield Finding(Severity.ERROR, "quota", f"{what}: {words}", ask)
    elif free < wanted:
        fewer = f"resources.workers: {max(1, free // cores)}; or "
        fix = ask if field != "vm_size" else fewer + ask
        yield Finding(Severity.ERROR, "quota", f"too small: {words}", fix)
    else:
        yield Finding(Severity.OK, "quota", words)
