"""The names on an OPC UA server, with the units and ranges that it gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asyncua import Node, ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError

from drillyard.errors import SimulatorError
from drillyard.simulators.channels import Channel

_LIMIT = 20_000
"""A server with more nodes needs `root`."""
_FLOATS = ("Float", "Double")
_INTEGERS = ("SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64")
_PROPERTIES = ("EURange", "EngineeringUnits", "InstrumentRange")


@dataclass(frozen=True)
class Found:
    """A variable or a method of a server.

    Attributes:
        node: The node.
        channel: Its name, unit and range.
        type: Type of its numbers; None if it has none.
        writable: Whether this user may write it.
        parent: The object that has a method.
    """

    node: Node
    channel: Channel
    type: ua.VariantType | None = None
    writable: bool = False
    parent: Node | None = None


async def browse(client: Client, root: str | None) -> dict[str, list[Found]]:
    """All variables with numbers and all methods, by their names and by their node ids.

    Args:
        client: It is connected.
        root: Name or node id of the node under which names begin; None for the folder Objects.

    Returns:
        ``Tank.Level`` and ``ns=2;i=7`` -> what has this name; more than one is ambiguous.

    Raises:
        SimulatorError: ``root`` does not exist, or there are too many nodes.
    """
    start = await _root(client, root)
    found: dict[str, list[Found]] = {}
    seen = {ua.NodeId(ua.ObjectIds.Server)}
    waiting: list[tuple[Node, str]] = [(start, "")]
    while waiting:
        node, path = waiting.pop()
        for child in await node.get_children_descriptions():
            node_id = child.NodeId
            if node_id in seen or child.BrowseName.Name in _PROPERTIES:
                continue
            seen.add(node_id)
            if len(seen) > _LIMIT:
                raise SimulatorError(
                    f"has more than {_LIMIT:,} nodes",
                    field="simulator.args.url",
                    hint="name the part that is meant: simulator.args: {root: NODE}",
                )
            name = f"{path}{child.BrowseName.Name}"
            below = client.get_node(node_id)
            waiting.append((below, f"{name}."))
            if child.NodeClass == ua.NodeClass.Variable:
                one = await _variable(below, name)
            elif child.NodeClass == ua.NodeClass.Method:
                one = Found(below, Channel(name), parent=node)
            else:
                continue
            found.setdefault(name, []).append(one)
            found.setdefault(node_id.to_string(), []).append(one)
    return found


async def _root(client: Client, root: str | None) -> Node:
    start = client.get_objects_node()
    try:
        if root is not None and "=" in root:
            start = client.get_node(root)
            await start.read_browse_name()
        elif root is not None:
            for part in root.split("."):
                below = await start.get_children_descriptions()
                start = client.get_node(
                    next(child.NodeId for child in below if child.BrowseName.Name == part)
                )
    except (UaError, ValueError, StopIteration) as error:
        raise SimulatorError(
            "is not on the server",
            field="simulator.args.root",
            value=root,
            allowed="a name below Objects, such as Plant.Tank, or a node id, such as ns=2;s=Plant",
            hint="`drillyard list points FILE` without `root` shows all names",
        ) from error
    return start


def same_type(kind: ua.VariantType | None, value: Any) -> Any:
    """A value as a variable of this type takes it."""
    number = float(value)
    if kind is ua.VariantType.Boolean:
        return bool(number)
    return round(number) if kind is not None and kind.name in _INTEGERS else number


async def _variable(node: Node, name: str) -> Found:
    try:
        kind = await node.read_data_type_as_variant_type()
        scalar = await node.read_value_rank() in (ua.ValueRank.Scalar, ua.ValueRank.Any)
        access = await node.get_user_access_level()
    except UaError:  # a type that the server does not describe: not a number
        return Found(node, Channel(name))
    if not scalar or kind.name not in ("Boolean", *_FLOATS, *_INTEGERS):
        return Found(node, Channel(name))
    unit = ""
    low: float | None = None
    high: float | None = None
    for property_ in await node.get_properties():
        label = (await property_.read_browse_name()).Name
        if label == "EngineeringUnits":
            value = await property_.read_value()
            unit = str(getattr(getattr(value, "DisplayName", None), "Text", "") or "")
        elif label == "EURange":
            value = await property_.read_value()
            if value is not None and value.Low < value.High:  # 0 to 0 if it was never set
                low, high = float(value.Low), float(value.High)
    channel = Channel(name, unit, low, high)
    return Found(node, channel, kind, ua.AccessLevel.CurrentWrite in access)
