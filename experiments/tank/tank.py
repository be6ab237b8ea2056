"""A leaking tank, in plain Python: no Gymnasium, no spaces, no rewards."""

from __future__ import annotations

from typing import Any


class Tank:
    """Level of a tank with a hole.

    Args:
        area: Of the ground, in m².
    """

    def __init__(self, area: float = 5.0) -> None:
        self.area = area
        self.level, self.wanted, self.time = 0.0, 0.5, 0

    def reset(self, config: dict[str, Any]) -> dict[str, float]:
        """Begin with the level and the set point of ``config``, in m."""
        self.level, self.wanted = config.get("level", 0.2), config.get("wanted", 0.5)
        self.time = 0
        return self.states()

    def step(self, actions: dict[str, float]) -> dict[str, float]:
        """A minute with the inflow of ``actions``, in m³/min."""
        self.level += (actions["inflow"] - 0.5 * max(self.level, 0.0) ** 0.5) / self.area
        self.time += 1
        return self.states()

    def states(self) -> dict[str, float]:
        """All there is to know."""
        return {"level": self.level, "wanted": self.wanted, "time": self.time}

    def terminated(self) -> bool:
        """It runs over."""
        return self.level > 2.0

    def truncated(self) -> bool:
        """An hour is over."""
        return self.time >= 60

    # With these two, a resumed run goes on in the middle of an episode.

    def state(self) -> dict[str, float]:
        """What the next step depends on."""
        return self.states()

    def load_state(self, state: dict[str, float]) -> None:
        """Go on from there."""
        self.level, self.wanted, self.time = state["level"], state["wanted"], int(state["time"])
