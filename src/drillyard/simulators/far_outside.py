"""Warns once if a simulator's observations are far outside their space.

A learner scales its first layer, and images, by the bounds of the space. It trains on other values
without a word, and badly.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from gymnasium import spaces

log = logging.getLogger(__name__)
EVERY = 64
"""Observations between two looks; a look at each would cost a part of the speed."""
_warned: set[str] = set()


class FarOutside:
    """Looks at observations now and then.

    Args:
        space: Observation space of a simulator.
        who: Name of the simulator, for the message.
    """

    def __init__(self, space: spaces.Space[Any], who: str) -> None:
        self._who, self._count = who, 0
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]
        self._bounds = {
            key: bounds
            for key, part in parts
            if isinstance(part, spaces.Box) and (bounds := _bounds(part)) is not None
        }

    def look(self, observation: Any, place: str = "") -> None:
        """Compares an observation, or those of several copies, with the space.

        Args:
            observation: As the simulator gave it; copies are the first axis.
            place: Where it was seen, for the message.
        """
        self._count += 1
        if self._count % EVERY != 1 or self._who in _warned:
            return
        for key, (low, high) in self._bounds.items():
            part = np.asarray(observation[key] if key else observation)
            far = (part < low) | (part > high)
            if far.any():
                _warned.add(self._who)
                value = part[far].flat[0]
                log.warning(
                    "%s: the observation%s has the value %g, far outside its space%s; declare the "
                    "bounds that it has, or scale it (wrapper `normalize`)",
                    self._who,
                    f" {key!r}" if key else "",
                    value,
                    f", at {place}" if place else "",
                )
                return


def _bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray] | None:
    """The bounds, widened by the whole range on both sides; None if the range is infinite."""
    if not space.is_bounded() or not np.issubdtype(space.dtype, np.floating):
        return None
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    span = high - low
    return (low - span, high + span) if np.isfinite(span).all() else None
