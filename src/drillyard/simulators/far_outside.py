"""Observations outside their space: a little, which is warned of, or far.

A learner scales its first layer, and images, by the bounds of the space. It trains on other values
without a word, and badly.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from gymnasium import spaces

from drillyard.documents.space_text import space_text

log = logging.getLogger(__name__)
EVERY = 64
"""Observations between two looks; a look at each would cost a part of the speed."""
WIDER = "widen the bounds of its observation_space; a run still trains on such values"
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


def is_near(space: spaces.Space[Any], observation: Any) -> bool:
    """Returns whether an observation is in its space, or outside by less than its range.

    A learner trains on such values: Gymnasium's ``LunarLander-v3`` turns beyond its largest angle.

    Args:
        space: Observation space of a simulator.
        observation: As the simulator gave it.
    """
    return space.contains(_clipped(space, observation))


def a_little(space: spaces.Space[Any], observation: Any) -> str:
    """Returns what is said of an observation that ``is_near``; empty if it is in its space.

    Args:
        space: Observation space of a simulator.
        observation: As the simulator gave it.
    """
    if space.contains(observation):
        return ""
    text = " ".join(str(observation).split())
    return f"the observation {text[:80]} is a little outside {space_text(space)}"


def _clipped(space: spaces.Space[Any], observation: Any) -> Any:
    """With the values that are a little outside moved to the next bound."""
    if isinstance(space, spaces.Dict) and isinstance(observation, dict):
        parts = observation.items()
        return {k: _clipped(space[k], v) if k in space.spaces else v for k, v in parts}
    if not isinstance(space, spaces.Box) or not isinstance(observation, np.ndarray):
        return observation
    bounds = _bounds(space)
    if bounds is None or observation.shape != space.shape or observation.dtype != space.dtype:
        return observation
    if ((observation < bounds[0]) | (observation > bounds[1])).any():
        return observation
    return np.clip(observation, space.low, space.high)
