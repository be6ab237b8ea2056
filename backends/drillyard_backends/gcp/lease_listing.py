"""The leases of a project, from the listings of its templates, groups and machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from drillyard.backend import Lease, Order
from drillyard.system.safe_names import LEASE
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.templates import order_of
from drillyard_backends.gcp.zones import Place

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Instance, InstanceTemplate


def listed_leases(
    groups: Groups, prefix: str, make: Callable[[Order, float], Lease]
) -> Iterator[Lease]:
    """Yields the leases of all groups, machines and templates of ours in the project.

    Args:
        groups: Makes the calls.
        prefix: Prefix of our names.
        make: Function of an order and of the time of creation that returns the lease.
    """
    leases: dict[str, Lease] = {}

    def add(name: str, created: str, template: InstanceTemplate | None) -> None:
        lease_id = naming.lease_of(name, prefix)
        if lease_id is None or lease_id in leases:
            return
        order = order_of(template)
        if order is None or order.lease_id != lease_id:
            # A template that cannot be read, or that a person copied: its lease must end, too.
            order = Order(lease_id=lease_id, experiment="", store_url="")
        leases[lease_id] = make(order, _epoch(created))

    templates = {t.name: t for t in groups.templates()}
    for template in templates.values():
        add(template.name, template.creation_timestamp, template)
    for group in groups.listed():
        add(group.name, group.created, templates.get(group.template))
    for instance in groups.instances(f"labels.{naming.MARK}={naming.MARK_VALUE}"):
        lease_id = instance.labels.get(naming.LEASE_LABEL, "")
        if not LEASE.match(lease_id):
            continue
        if lease_id not in leases:
            order = _outline(lease_id, instance.labels)
            leases[lease_id] = make(order, _epoch(instance.creation_timestamp))
        until = instance.labels.get(naming.PROTECTED_LABEL, "")
        if until.isdecimal():
            provider = {**leases[lease_id].provider, "protected_until": float(until)}
            leases[lease_id] = leases[lease_id].model_copy(update={"provider": provider})
    yield from leases.values()


def group_of(instance: Instance) -> tuple[Place, str] | None:
    """Returns a machine's group, from drillyard's metadata or else from Google's."""
    items = {item.key: item.value for item in instance.metadata.items}
    path = items.get(naming.GROUP_KEY) or items.get("created-by") or ""
    name = path.rpartition("/")[2]
    try:
        return (Place.parse(path), name) if name else None
    except ValueError:
        return None


def _outline(lease_id: str, labels: Mapping[str, str]) -> Order:
    """Returns the order as far as labels hold it: enough to end the lease at its time."""
    until = labels.get(naming.UNTIL_LABEL, "")
    return Order(
        lease_id=lease_id,
        experiment=labels.get(naming.EXPERIMENT_LABEL, ""),
        store_url="",
        deadline=float(until) if until.isdecimal() else None,
    )


def _epoch(stamp: str) -> float:
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return 0.0
