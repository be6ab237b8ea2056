"""One look at the machine."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import psutil

from drillyard.system.utilisation import cgroup
from drillyard.system.utilisation.nvml import Gpus

Usage: TypeAlias = dict[str, float]
"""Name of a system metric, with its prefix ``system/`` -> value."""
PREFIX = "system/"
_MB = 1e6
"""Bytes; MLflow counts megabytes like this."""
_GPU = re.compile(rf"{PREFIX}gpu_(\d+)_utilization_percentage\Z")


class Sampler:
    """Reads the use of this machine, or of the container around this process.

    Args:
        folder: Any folder of the disk that is watched.
        root: The root of the file system with the control groups, for tests.
        gpus: The GPUs; default those of this machine.
    """

    def __init__(self, folder: Path, root: Path = Path("/"), gpus: Gpus | None = None) -> None:
        self._folder, self._root = folder, root
        self._gpus = gpus
        self._spent: tuple[float, float] | None = None
        self._network: tuple[int, int] | None = None

    def sample(self) -> Usage:
        """The use of everything that can be read; processors since the sample before.

        Never raises: what this system does not show is left out. The first call opens the driver
        of the GPUs, and begins to count.
        """
        usage: Usage = {}
        with contextlib.suppress(OSError, psutil.Error, RuntimeError):
            before, self._spent = self._spent, self._processors()
            if before is not None and (wall := self._spent[1] - before[1]) > 0:
                share = (self._spent[0] - before[0]) / wall * 100
                usage["cpu_utilization_percentage"] = min(100.0, max(0.0, share))
        with contextlib.suppress(OSError, psutil.Error):
            used, total = self._memory()
            usage["system_memory_usage_megabytes"] = used / _MB
            usage["system_memory_usage_percentage"] = used / total * 100
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._folder)
            size, free = disk.f_frsize * disk.f_blocks, disk.f_frsize * disk.f_bavail
            taken = disk.f_frsize * (disk.f_blocks - disk.f_bfree)
            usage["disk_usage_megabytes"] = taken / _MB
            usage["disk_available_megabytes"] = free / _MB
            if size:
                usage["disk_usage_percentage"] = taken / max(1, taken + free) * 100
        with contextlib.suppress(OSError, psutil.Error):
            received, sent = _network()
            first = self._network = self._network or (received, sent)
            usage["network_receive_megabytes"] = (received - first[0]) / _MB
            usage["network_transmit_megabytes"] = (sent - first[1]) / _MB
        self._gpus = self._gpus or Gpus()
        usage.update(self._gpus.metrics())
        return {f"{PREFIX}{name}": round(value, 1) for name, value in usage.items()}

    def _processors(self) -> tuple[float, float]:
        """(seconds of processor time so far, seconds that there were), over all processors."""
        limited = cgroup.processors(self._root)
        if limited is not None and limited[1] < (os.cpu_count() or 1):
            return limited[0], time.monotonic() * limited[1]
        times = psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return total - times.idle - getattr(times, "iowait", 0.0), total

    def _memory(self) -> tuple[int, int]:
        """(bytes in use, bytes that there are)."""
        machine = psutil.virtual_memory()
        limited = cgroup.memory(self._root)
        if limited is not None and limited[1] < machine.total:
            return limited
        return machine.total - machine.available, machine.total


def _network() -> tuple[int, int]:
    """Bytes that were received and sent so far, without the loopback interface."""
    counters = psutil.net_io_counters(pernic=True)
    real = [counted for name, counted in counters.items() if name != "lo"]
    return sum(c.bytes_recv for c in real), sum(c.bytes_sent for c in real)


def in_words(usage: Mapping[str, float]) -> str:
    """``CPU 85 %, memory 4.1 GB (12 %), GPU 31 % (memory 40 %)``; empty without a sample."""
    parts = []
    if (cpu := usage.get(f"{PREFIX}cpu_utilization_percentage")) is not None:
        parts.append(f"CPU {cpu:.0f} %")
    if (share := usage.get(f"{PREFIX}system_memory_usage_percentage")) is not None:
        size = usage.get(f"{PREFIX}system_memory_usage_megabytes", 0.0) / 1000
        parts.append(f"memory {size:.1f} GB ({share:.0f} %)")
    gpus = {int(m[1]): value for name, value in usage.items() if (m := _GPU.match(name))}
    for number, busy in sorted(gpus.items()):
        text = f"GPU {number} {busy:.0f} %" if len(gpus) > 1 else f"GPU {busy:.0f} %"
        held = usage.get(f"{PREFIX}gpu_{number}_memory_usage_percentage")
        parts.append(text + (f" (memory {held:.0f} %)" if held is not None else ""))
    return ", ".join(parts)
