"""The use of a machine in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from drillyard.system.utilisation.sampler import PREFIX

_GPU = re.compile(rf"{PREFIX}gpu_(\d+)_utilization_percentage\Z")


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
