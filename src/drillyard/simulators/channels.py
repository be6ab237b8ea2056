"""What a simulator may declare of its observations and actions: names, units, ranges.

A simulator with a method ``channels()`` gives ``{"observation": [Channel, …], "action": […]}``,
one for each value in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from drillyard.documents.json_types import Json


class ChannelJson(TypedDict):
    """One value of an observation or of an action, see ``Channel``."""

    name: str
    unit: str
    low: float | None
    high: float | None
    values: list[Json] | None


@dataclass(frozen=True)
class Channel:
    """One value of an observation or an action.

    ``low`` and ``high`` are what the bounds of the policy's own space stand for, in ``unit``;
    None where the policy's value is the value itself. A choice has ``values`` instead.
    """

    name: str
    unit: str = "1"
    low: float | None = None
    high: float | None = None
    values: list[Json] | None = None

    def to_json(self) -> ChannelJson:
        """As a mapping."""
        return {
            "name": self.name,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "values": self.values,
        }
