"""A clock that runs faster than the world's, for drillyard in this process.

Everything of drillyard tells the time and waits through
``drillyard.system.clock.SYSTEM``, so half a minute
by which a listing lags need not be half a minute of ours.
An emulated cloud of the same
speed goes by the same time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drillyard.system.clock import SystemClock
from drillyard_emulators.http.handle import GcpEmulator


@dataclass(frozen=True)
class VirtualClock:
    """Seconds that pass faster; the same in every process of this machine.

    Attributes:
        speed: Virtual seconds a real one.
        epoch: Virtual time, in epoch seconds, ...
        at: ... when the system's monotonic clock showed this.
    """

    speed: float
    epoch: float
    at: float

    @classmethod
    def of(cls, cloud: GcpEmulator, speed: float) -> VirtualClock:
        """The time of an emulated cloud, to within the time that a question takes."""
        return cls(speed, float(cloud.state()["now"]), time.monotonic())

    def now(self) -> float:
        """Virtual epoch seconds."""
        return self.epoch + (time.monotonic() - self.at) * self.speed

    def monotonic(self) -> float:
        """Virtual seconds that only grow."""
        return time.monotonic() * self.speed

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait for the event or the virtual time."""
        return event.wait(max(0.0, timeout_s) / self.speed)

    def install(self, set_: Callable[[Any, str, Any], object] = setattr) -> None:
        """From now on drillyard goes by this clock, in this process.

        Args:
            set_: Sets an attribute; a test's undoes it.
        """
        for name in ("now", "monotonic", "wait"):
            set_(SystemClock, name, staticmethod(getattr(self, name)))

    @property
    def command(self) -> list[str]:
        """``drillyard`` as a command that goes by this clock; needs the repository on its path."""
        told = [str(value) for value in (self.speed, self.epoch, self.at)]
        return [sys.executable, "-m", __spec__.name, *told]


def main() -> int:
    """``python -m tests.benchmarks.virtual_clock SPEED EPOCH AT ARGUMENTS OF DRILLYARD``."""
    from drillyard.cli.main import main as drillyard

    speed, epoch, at = map(float, sys.argv[1:4])
    VirtualClock(speed, epoch, at).install()
    return drillyard(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
