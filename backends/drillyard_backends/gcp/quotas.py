"""Checks that the project's quotas are large enough for an order."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

_FAMILIES_OF_THEIR_OWN = {
    "n2": "N2_CPUS",
    "n2d": "N2D_CPUS",
    "t2d": "T2D_CPUS",
    "c2": "C2_CPUS",
    "c2d": "C2D_CPUS",
    "c3": "C3_CPUS",
    "m1": "M1_CPUS",
    "m2": "M2_CPUS",
    "a2": "A2_CPUS",
}
"""Machine family -> its metric; e2, n1, f1 and g1 share CPUS, newer ones are not in this list."""
_SHARED = ("e2", "n1", "f1", "g1")
_LISTED_GPUS = ("K80", "P4", "P100", "V100", "T4", "L4", "A100", "A100_80GB")
NEWER_CPUS, NEWER_GPUS = "CPUS_PER_VM_FAMILY", "GPUS_PER_GPU_FAMILY"
"""Quotas of newer series. A region's description lists neither, nor Spot quotas of H200 and B200.

Sources: ``Quota.metric`` of compute.v1, revision 20261106, has no such name;
https://github.com/dstackai/dstack/pull/3100, 2025-09-29; and Google's page of the Cloud Quotas
API, https://cloud.google.com/docs/quotas/implement-common-use-cases, read 2026-11-26.
"""


@dataclass(frozen=True)
class Machine:
    """What one machine takes.

    Attributes:
        name: Its type, ``n2-highcpu-8``.
        cpus: Virtual CPUs.
        gpu_type: ``nvidia-tesla-t4``, or None.
        gpus: How many of them.
        disk_gb: Size of its disk.
        disk_type: ``pd-balanced`` and so on.
        spot: True where it can be taken away.
        public_ip: True where it has an address of its own.
    """

    name: str
    cpus: int
    gpu_type: str | None = None
    gpus: int = 0
    disk_gb: int = 0
    disk_type: str = "pd-balanced"
    spot: bool = False
    public_ip: bool = False

    @property
    def family(self) -> str:
        """``n2`` of ``n2-highcpu-8``."""
        return self.name.partition("-")[0]


@dataclass(frozen=True)
class Short:
    """A quota without room.

    Attributes:
        metric: Its name at Google.
        where: Region, or ``all regions``.
        needed: By the order.
        limit: What it allows.
        usage: What is used already.
    """

    metric: str
    where: str
    needed: float
    limit: float
    usage: float

    def __str__(self) -> str:
        free = max(0.0, self.limit - self.usage)
        return (
            f"{self.metric} in {self.where}: {self.needed:g} needed, {free:g} free "
            f"({self.usage:g} of {self.limit:g} used)"
        )


def link(project: str, metric: str = "") -> str:
    """Where quotas are raised."""
    address = f"https://console.cloud.google.com/iam-admin/quotas?project={quote(project)}"
    return f"{address}&metric={quote(metric)}" if metric else address


def short(
    machine: Machine, count: int, region: str, regional: Any, everywhere: Any
) -> Iterator[Short]:
    """The quotas that have no room for so many machines.

    Args:
        machine: One of them.
        count: How many.
        region: Its name.
        regional: ``quotas`` of the region's description.
        everywhere: ``quotas`` of the project's description.
    """
    here, all_regions = _by_metric(regional), _by_metric(everywhere)
    for metric, needed in demands(machine, count, here).items():
        if metric in here and needed > here[metric][0] - here[metric][1]:
            yield Short(metric, region, needed, *here[metric])
    total = {"CPUS_ALL_REGIONS": machine.cpus * count, "GPUS_ALL_REGIONS": machine.gpus * count}
    for metric, needed in total.items():
        limit, usage = all_regions.get(metric, (0.0, 0.0))
        # A project without this metric has no such limit; GPUs have one everywhere.
        if metric in all_regions and needed > 0 and needed > limit - usage:
            yield Short(metric, "all regions", needed, limit, usage)


def unlisted(machine: Machine, regional: Any) -> list[str]:
    """Returns the quotas of CPUs or GPUs that count, and that the region does not list.

    Args:
        machine: A machine; with GPUs, their quota is the one that limits it.
        regional: ``quotas`` of the region's description.
    """
    limits = _by_metric(regional)
    metric = gpu_metric(machine, limits) if machine.gpu_type else _cpu_metric(machine, limits)
    return [] if metric in limits else [metric]


def demands(
    machine: Machine, count: int, limits: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Metric -> how much of it so many machines take.

    Args:
        machine: One of them.
        count: How many.
        limits: Quotas of the region. Spot machines count against their own quotas if the project
            has such, else against the ordinary ones.
    """
    amounts: dict[str, float] = {
        "INSTANCES": count,
        "INSTANCE_GROUP_MANAGERS": 1,
        _cpu_metric(machine, limits): machine.cpus * count,
    }
    if machine.gpus and machine.gpu_type:
        amounts[gpu_metric(machine, limits)] = machine.gpus * count
    if machine.disk_gb:
        standard = machine.disk_type == "pd-standard"
        amounts["DISKS_TOTAL_GB" if standard else "SSD_TOTAL_GB"] = machine.disk_gb * count
    if machine.public_ip:
        amounts["IN_USE_ADDRESSES"] = count
    return amounts


def gpu_metric(machine: Machine, limits: Collection[str]) -> str:
    """``nvidia-tesla-t4`` -> ``NVIDIA_T4_GPUS``; as Spot ``PREEMPTIBLE_NVIDIA_T4_GPUS``.

    Args:
        machine: A machine with GPUs.
        limits: Names of the quotas that the region lists.
    """
    name = (machine.gpu_type or "").removesuffix("-vws").replace("-tesla-", "-")
    # Only the A100 has a quota for each size of its memory.
    name = re.sub(r"-(h\d+)-\d+gb\Z", r"-\1", name)
    series = name.removeprefix("nvidia-").upper().replace("-", "_")
    metric = f"NVIDIA_{series}_GPUS"
    spot = f"PREEMPTIBLE_{metric}"
    if series in _LISTED_GPUS:
        return spot if machine.spot and spot in limits else metric
    return spot if machine.spot else NEWER_GPUS


def _cpu_metric(machine: Machine, limits: Mapping[str, tuple[float, float]]) -> str:
    # Google counts Spot CPUs here only where a quota of them was granted.
    if machine.spot and limits.get("PREEMPTIBLE_CPUS", (0.0, 0.0))[0] > 0:
        return "PREEMPTIBLE_CPUS"
    if machine.family in _SHARED:
        return "CPUS"
    return _FAMILIES_OF_THEIR_OWN.get(machine.family, NEWER_CPUS)


def _by_metric(quotas: Any) -> dict[str, tuple[float, float]]:
    return {
        str(q.get("metric")): (float(q.get("limit", 0)), float(q.get("usage", 0)))
        for q in quotas or []
        if isinstance(q, dict)
    }
