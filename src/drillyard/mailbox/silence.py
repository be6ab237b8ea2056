"""How long heartbeats stay the same while a process looks, by its monotonic clock.

The age of a stamp alone shows no death: the clock that tells it may have jumped, or the machine of
both may have slept. A living process writes its next heartbeat within seconds.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass
class _Heard:
    """A heartbeat, the last look at it, and for how long it has been the same."""

    stamp: float
    looked_at: float
    same_s: float = 0.0


class Silence:
    """Measures for how long each heartbeat has been the same."""

    def __init__(self) -> None:
        self._heard: dict[Hashable, _Heard] = {}

    def seconds(self, owner: Hashable, stamp: float, now: float, longest_pause_s: float) -> float:
        """Look at a heartbeat.

        Args:
            owner: Whose heartbeat it is.
            stamp: Its time by the store's clock.
            now: Monotonic seconds.
            longest_pause_s: A longer pause between two looks counts as this long: it may only
                show that the looker itself could not run.

        Returns:
            Seconds for which it has been the same; 0 at the first look.
        """
        heard = self._heard.get(owner)
        if heard is None or heard.stamp != stamp:
            self._heard[owner] = _Heard(stamp, now)
            return 0.0
        heard.same_s += min(now - heard.looked_at, longest_pause_s)
        heard.looked_at = now
        return heard.same_s

    def changed(self, owner: Hashable, stamp: float) -> bool:
        """Whether a heartbeat differs from the last one that was seen of its owner."""
        heard = self._heard.get(owner)
        return heard is not None and heard.stamp != stamp
