"""Makes the template of a lease, also where an earlier experiment of its name left one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from drillyard.backend import Order
from drillyard.errors import CorruptObject, NewerVersion
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.errors import Exists, InUse, Missing
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.template import Item, Template

if TYPE_CHECKING:
    from google.cloud.compute_v1 import InstanceTemplate

GROUP_WAIT_S = 60.0
"""Seconds to wait for the end of an empty group."""
log = logging.getLogger(__name__)


def make_template(groups: Groups, body: Template) -> None:
    """Creates a template unless there is one of that name for the same order.

    A template of another order is left over from an earlier experiment of that name: its machines
    would run old code until an old deadline. It is replaced, and so are the groups that use it if
    they have no machines: with the role that ships, the last machine leaves an empty group behind.
    Where machines use it, and only the limit of the order is another one, it stays: a driver that
    goes on may have less of its budget left, and must still be able to replace lost machines.

    Args:
        groups: Makes the calls.
        body: The template.

    Raises:
        InUse: A group with machines uses the template of another order.
    """
    name, order = body["name"], order_in(body["properties"]["metadata"]["items"])
    for _ in range(2):
        try:
            groups.insert_template(body)
            return
        except Exists:
            try:
                there = groups.template(name)
            except Missing:
                continue
        if order_of(there) == order:
            return
        if not groups.delete_template(name):
            try:
                _delete_empty_groups(groups, name)
            except InUse:
                if _without_limit(order_of(there)) == _without_limit(order):
                    return
                raise
            groups.delete_template(name)
    raise InUse(f"template {name} of an earlier experiment cannot be replaced yet")


def _delete_empty_groups(groups: Groups, template: str) -> None:
    for group in groups.listed():
        if group.template != template:
            continue
        if groups.machines(group.place, group.name):
            raise InUse(
                f"group {group.name} in {group.place.name} has machines of an earlier experiment"
            )
        log.info("delete the empty group %s in %s", group.name, group.place.name)
        operation = groups.delete(group.place, group.name)
        if operation is not None:
            groups.wait_deleted(group.place, group.name, operation, GROUP_WAIT_S)


def _without_limit(order: Order | None) -> Order | None:
    return order and order.model_copy(update={"deadline": None, "deadline_of": ""})


def order_of(template: InstanceTemplate | None) -> Order | None:
    """Returns the order in a template's metadata; None if there is none that can be read."""
    items = template.properties.metadata.items if template is not None else []
    return order_in([{"key": item.key, "value": item.value} for item in items])


def order_in(items: list[Item]) -> Order | None:
    """Returns the order in metadata; None if there is none that can be read.

    Orders are compared, not their text: another version of drillyard may write more fields.
    """
    for item in items:
        if item["key"] == naming.ORDER_KEY:
            try:
                return Order.from_bytes(item["value"].encode())
            except (CorruptObject, NewerVersion):
                return None
    return None
