"""The compute cluster: a named one that is kept, or one of the lease's own."""

from __future__ import annotations

from typing import Any

from drillyard.backend import Liveness, Order
from drillyard_backends.azure import naming
from drillyard_backends.azure.errors import Missing
from drillyard_backends.azure.service import Service, word
from drillyard_backends.azure.settings import AzureConfig

_COMING = ("creating", "updating", "unknown")
_THERE = ("succeeded",)


def name_of(config: AzureConfig, order: Order) -> str:
    """Of the cluster that a lease's jobs run on."""
    return config.compute or order.lease_id


def runs_of_a_job(config: AzureConfig, order: Order) -> int:
    """Runs that a job does side by side: one a node, or one over all its nodes."""
    return 1 if order.spread > 1 else config.instance_count


def nodes(config: AzureConfig, order: Order) -> int:
    """Nodes that a lease takes at the most: those of whole jobs."""
    return -(-order.workers // runs_of_a_job(config, order)) * config.instance_count


def ensure(service: Service, config: AzureConfig, order: Order) -> bool:
    """Make the cluster unless it is there; True when this call did.

    What is there is used as it is: an existing cluster is never changed.
    """
    name = name_of(config, order)
    try:
        service.compute(name)
        return False
    except Missing:
        service.make_compute(_entity(config, order, name))
        return True


def liveness(service: Service, config: AzureConfig, order: Order) -> Liveness:
    """Whether the cluster can be used."""
    try:
        found = service.compute(name_of(config, order))
    except Missing:
        return Liveness.GONE
    state = word(found.provisioning_state).lower()
    if state in _THERE:
        return Liveness.ALIVE
    return Liveness.PENDING if state in _COMING else Liveness.GONE


def words(service: Service, name: str) -> list[str]:
    """What Azure says of a cluster, for people."""
    try:
        found = service.compute(name)
    except Missing:
        return [f"cluster {name}: is not there"]
    kind = "low priority" if found.tier == "low_priority" else "dedicated"
    state = word(found.provisioning_state).lower()
    lines = [f"cluster {name}: {state}, {found.size} ({kind}), at most {found.max_instances}"]
    if found.provisioning_errors:
        lines.append(f"cluster {name}: {found.provisioning_errors}")
    return lines


def _entity(config: AzureConfig, order: Order, name: str) -> Any:
    from azure.ai.ml.entities import (
        AmlCompute,
        IdentityConfiguration,
        ManagedIdentityConfiguration,
    )

    if config.identity is None:
        identity = IdentityConfiguration(type="system_assigned")
    else:
        one = ManagedIdentityConfiguration(resource_id=config.identity)
        identity = IdentityConfiguration(type="user_assigned", user_assigned_identities=[one])
    tags = naming.tags(order, config.tags) if config.compute is None else dict(config.tags)
    return AmlCompute(
        name=name, size=config.vm_size, min_instances=0,
        max_instances=config.max_nodes or nodes(config, order),
        idle_time_before_scale_down=config.node_idle_s,
        tier="low_priority" if config.low_priority else "dedicated", identity=identity, tags=tags,
    )  # fmt: skip
