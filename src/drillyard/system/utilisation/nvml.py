"""NVIDIA GPUs, by ``pynvml``, which calls the driver's own library.

``nvidia-smi`` is a front end of the same library; its output "is not guaranteed to be backwards
compatible", that of the library is (man page of nvidia-smi), and starting it takes more processor
time than ten seconds of all other samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Gpus:
    """The GPUs of this machine; none where there is no driver.

    Args:
        library: In place of ``pynvml``, for tests.
    """

    def __init__(self, library: Any = None) -> None:
        self._library, self._cards = library, list[Any]()
        try:
            if library is None:
                import pynvml

                self._library = pynvml
        except ImportError:  # an image of before drillyard needed it
            return
        if self._ask("nvmlInit", default=False) is None:
            cards = range(self._ask("nvmlDeviceGetCount", default=0))
            handles = (self._ask("nvmlDeviceGetHandleByIndex", card) for card in cards)
            self._cards = [handle for handle in handles if handle is not None]

    def metrics(self) -> Iterator[tuple[str, float]]:
        """(name, value) of each quantity that the GPUs know; a part of a GPU (MIG) knows few."""
        for number, card in enumerate(self._cards):
            memory = self._ask("nvmlDeviceGetMemoryInfo", card)
            if memory is not None:
                yield f"gpu_{number}_memory_usage_megabytes", memory.used / 1e6
                if memory.total:
                    share = memory.used / memory.total * 100
                    yield f"gpu_{number}_memory_usage_percentage", share
            rates = self._ask("nvmlDeviceGetUtilizationRates", card)
            if rates is not None:
                yield f"gpu_{number}_utilization_percentage", float(rates.gpu)
            milliwatts = self._ask("nvmlDeviceGetPowerUsage", card)
            if milliwatts is not None:
                yield f"gpu_{number}_power_usage_watts", milliwatts / 1000

    def _ask(self, function: str, *args: object, default: Any = None) -> Any:
        """Returns an answer, or the default if the driver lacks the function, or refuses."""
        try:
            return getattr(self._library, function)(*args)
        except self._library.NVMLError:
            return default
