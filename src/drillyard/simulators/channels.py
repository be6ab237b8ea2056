"""What a simulator may declare of its observations and actions: names, units, ranges.

A simulator with a method ``channels()`` gives ``{"observation": [Channel, …], "action": […]}``,
one for each value in order.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
    values: list[Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As a mapping."""
        return asdict(self)
