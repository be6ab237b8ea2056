"""How long the driver's own phases took, for the report and the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Record
from drillyard.system.clock import Clock


class Timings(Record):
    """``timings/<driver number>.json``: seconds of the driver's own phases."""

    seconds: dict[str, float] = Field(default_factory=dict)


class PhaseTimes:
    """Seconds spent in each phase, summed over its calls.

    Args:
        clock: Its monotonic time is read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Count the time inside the block for a phase, also when it fails."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            took = self._clock.monotonic() - began
            self._seconds[phase] = self._seconds.get(phase, 0.0) + took

    def at_least(self, phase: str, seconds: float) -> None:
        """Correct the time of a phase that began before its first call."""
        self._seconds[phase] = max(self._seconds.get(phase, 0.0), seconds)

    def knows(self, phase: str) -> bool:
        """Whether some time of a phase was counted, as of a phase that has ended."""
        return phase in self._seconds

    def save(self, mailbox: Mailbox, driver: int) -> None:
        """Write the timings so far under the driver's number."""
        mailbox.write(f"timings/{driver}.json", Timings(seconds=dict(self._seconds)))
