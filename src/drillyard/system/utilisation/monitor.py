"""Samples of a machine over time, and what is worth a warning."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypedDict

from drillyard.system.utilisation.sampler import PREFIX, Usage

EVERY_S = 10.0
"""Seconds between two samples."""
IDLE_PERCENT = 20.0
"""A GPU below this is not what the training waits for."""
IDLE_S = 600.0
"""For so long, on average: a start, an evaluation or a checkpoint may take minutes."""
FULL_PERCENT = 90.0
"""Share of the memory; at 100 % the kernel kills a process."""
FULL_GPU_PERCENT = 97.0
"""Share of the memory of a GPU; libraries reserve most of it in advance."""
KEPT = 1000
"""Samples between two writes; then every second one goes, so that memory stays bounded."""
_GPU = re.compile(rf"{PREFIX}gpu_(\d+)_(utilization|memory_usage)_percentage\Z")


class UsageSample(TypedDict):
    """A sample with its place in the training.

    Attributes:
        time: Seconds since the epoch.
        step: Environment steps at that time.
        metrics: The use.
    """

    time: float
    step: int
    metrics: Usage


class Monitor:
    """Takes a sample every ten seconds, when it is stepped.

    One thread steps it, another one takes the samples.

    Args:
        sample: Takes a sample.
        now: Seconds since the epoch.
        gpus: Numbers of the GPUs that should be busy; None: all of them, empty: none.
        warn: Called once with each warning, as a sentence.
    """

    def __init__(
        self,
        sample: Callable[[], Usage],
        now: Callable[[], float],
        gpus: Sequence[int] | None = (),
        warn: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._sample, self._now, self._gpus, self._warn = sample, now, gpus, warn
        self._due = 0.0
        self._new: list[UsageSample] = []
        self._lock = threading.Lock()
        self._busy: dict[str, deque[tuple[float, float]]] = {}
        self._told: set[str] = set()
        self.latest: Usage = {}
        """The last sample; empty before the first."""
        self.warnings: list[str] = []
        """What is worth a warning now."""

    def step(self, now: float, step: int = 0) -> None:
        """Take a sample if one is due.

        Args:
            now: Monotonic seconds.
            step: Environment steps so far.
        """
        if now < self._due:
            return
        first, self._due = self._due == 0.0, now + EVERY_S
        taken = self._sample()
        if first:  # processors are counted from one sample to the next
            return
        self.latest = taken
        self._judge(now)
        with self._lock:
            self._new.append({"time": self._now(), "step": step, "metrics": self.latest})
            if len(self._new) > KEPT:
                del self._new[::2]

    def take(self) -> list[UsageSample]:
        """The samples since the last call."""
        with self._lock:
            new, self._new = self._new, []
        return new

    def _judge(self, now: float) -> None:
        warnings = {}
        memory = self.latest.get(f"{PREFIX}system_memory_usage_percentage", 0.0)
        if memory >= FULL_PERCENT:
            warnings["memory"] = (
                f"memory is nearly exhausted: {memory:.0f} % are in use; fewer runs on a machine, "
                "fewer copies, a smaller replay buffer or a machine with more memory help"
            )
        for name, value in self.latest.items():
            match = _GPU.match(name)
            if match is None:
                continue
            number, what = int(match[1]), match[2]
            if what == "memory_usage" and value >= FULL_GPU_PERCENT:
                warnings[name] = f"the memory of GPU {number} is nearly exhausted: {value:.0f} %"
            if what == "utilization" and (self._gpus is None or number in self._gpus):
                mean = self._mean(name, now, value)
                if mean is not None and mean < IDLE_PERCENT:
                    warnings[name] = (
                        f"GPU {number} was in use {mean:.0f} % of the last "
                        f"{IDLE_S / 60:.0f} minutes: it is paid for, and the training waits for "
                        "something else; more copies of the simulator, larger batches, several "
                        "runs on a GPU or no GPU cost less"
                    )
        self.warnings = list(warnings.values())
        for kind in warnings.keys() - self._told:
            self._warn(warnings[kind])
        self._told = set(warnings)

    def _mean(self, name: str, now: float, value: float) -> float | None:
        """Mean over the last minutes; None while there are fewer."""
        kept = self._busy.setdefault(name, deque())
        kept.append((now, value))
        while len(kept) > 1 and now - kept[1][0] >= IDLE_S:
            kept.popleft()
        if now - kept[0][0] < IDLE_S:
            return None
        return sum(v for _, v in kept) / len(kept)
