"""NVIDIA GPUs, by the driver's own library.

``nvidia-smi`` is a front end of the same library; its output "is not guaranteed to be backwards
compatible", that of the library is (man page of nvidia-smi), and starting it takes more processor
time than ten seconds of all other samples. Functions and structures: NVML API Reference Guide
(docs.nvidia.com/deploy/nvml-api), parts 5.14 "Initialization", 5.16 "Device Queries".
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Protocol

LIBRARY = "libnvidia-ml.so.1"


class Library(Protocol):
    """The library, as ``ctypes`` gives it; each function returns 0 for success."""

    def __getattr__(self, name: str) -> ctypes._FuncPointer: ...


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``, in bytes."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Utilization(ctypes.Structure):
    """``nvmlUtilization_t``, in percent of the last sample period."""

    _fields_ = [(name, ctypes.c_uint) for name in ("gpu", "memory")]


class Gpus:
    """The GPUs of this machine; none where there is no driver.

    Args:
        library: In place of the driver's own, for tests.
    """

    def __init__(self, library: Library | None = None) -> None:
        self._handles: list[ctypes.c_void_p] = []
        try:
            self._library: Library = library or ctypes.CDLL(LIBRARY)
        except OSError:
            return
        count = ctypes.c_uint()
        if self._ask("nvmlInit_v2") and self._ask("nvmlDeviceGetCount_v2", ctypes.byref(count)):
            for index in range(count.value):
                handle = ctypes.c_void_p()
                wanted = ctypes.c_uint(index)
                if self._ask("nvmlDeviceGetHandleByIndex_v2", wanted, ctypes.byref(handle)):
                    self._handles.append(handle)

    def metrics(self) -> Iterator[tuple[str, float]]:
        """(name, value) of each quantity that the GPUs know; a part of a GPU (MIG) knows few."""
        for number, handle in enumerate(self._handles):
            memory, used = _Memory(), _Utilization()
            if self._ask("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory)):
                yield f"gpu_{number}_memory_usage_megabytes", memory.used / 1e6
                if memory.total:
                    share = memory.used / memory.total * 100
                    yield f"gpu_{number}_memory_usage_percentage", share
            if self._ask("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(used)):
                yield f"gpu_{number}_utilization_percentage", float(used.gpu)
            power = ctypes.c_uint()  # milliwatts
            if self._ask("nvmlDeviceGetPowerUsage", handle, ctypes.byref(power)):
                yield f"gpu_{number}_power_usage_watts", power.value / 1000

    def _ask(self, function: str, *args: object) -> bool:
        """Call a function; False if the driver does not have it, or refuses."""
        try:
            return bool(getattr(self._library, function)(*args) == 0)
        except AttributeError:
            return False
