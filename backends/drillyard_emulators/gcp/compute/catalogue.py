"""What can be rented where: a small, fixed part of Google's regions and machine types."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

REGIONS: dict[str, tuple[str, ...]] = {
    "europe-west1": ("b", "c", "d"),
    "europe-west4": ("a", "b", "c"),
    "us-central1": ("a", "b", "c", "f"),
    "us-east1": ("b", "c", "d"),
}
_SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 80, 96)
# Family: GiB of memory a vCPU, by kind.
_FAMILIES: dict[str, dict[str, float]] = {
    "n1": {"standard": 3.75, "highcpu": 0.9, "highmem": 6.5},
    "n2": {"standard": 4, "highcpu": 1, "highmem": 8},
    "n2d": {"standard": 4, "highcpu": 1, "highmem": 8},
    "e2": {"standard": 4, "highcpu": 1, "highmem": 8},
    "c2": {"standard": 4},
    "c2d": {"standard": 4, "highcpu": 2},
    "c3": {"standard": 4, "highcpu": 2},
    "t2d": {"standard": 4},
}
_OTHERS: dict[str, tuple[int, float, str | None, int]] = {
    # name: vCPUs, GiB, the accelerator it carries, how many
    "e2-micro": (2, 1, None, 0),
    "e2-small": (2, 2, None, 0),
    "e2-medium": (2, 4, None, 0),
    "a2-highgpu-1g": (12, 85, "nvidia-tesla-a100", 1),
    "a2-highgpu-2g": (24, 170, "nvidia-tesla-a100", 2),
    "a3-highgpu-1g": (26, 234, "nvidia-h100-80gb", 1),
    "a3-highgpu-8g": (208, 1872, "nvidia-h100-80gb", 8),
    "a3-ultragpu-8g": (224, 2952, "nvidia-h200-141gb", 8),
    "a4-highgpu-8g": (224, 3968, "nvidia-b200", 8),
    "g2-standard-4": (4, 16, "nvidia-l4", 1),
    "g2-standard-8": (8, 32, "nvidia-l4", 1),
    "g2-standard-24": (24, 96, "nvidia-l4", 2),
}
ACCELERATORS = {
    "nvidia-tesla-t4": 4,
    "nvidia-tesla-v100": 8,
    "nvidia-l4": 8,
    "nvidia-tesla-a100": 16,
    "nvidia-h100-80gb": 8,
    "nvidia-h200-141gb": 8,
    "nvidia-b200": 8,
}
"""Accelerator type to the most that one machine can have."""
UNLISTED = re.compile(r"NVIDIA_H100_GPUS|(PREEMPTIBLE_)?NVIDIA_(H200|B200)_GPUS")
"""Quotas that are in force and that no description of a region shows."""


@dataclass(frozen=True, slots=True)
class MachineType:
    """One machine type."""

    name: str
    cpus: int
    memory_mib: int
    accelerator: str | None = None
    accelerators: int = 0


def machine_type(name: str) -> MachineType | None:
    """A machine type by name, or None."""
    if name in _OTHERS:
        cpus, gib, accelerator, count = _OTHERS[name]
        return MachineType(name, cpus, int(gib * 1024), accelerator, count)
    match = re.fullmatch(r"(\w+)-(standard|highcpu|highmem)-(\d+)", name)
    if match is None or int(match[3]) not in _SIZES or match[2] not in _FAMILIES.get(match[1], {}):
        return None
    cpus = int(match[3])
    return MachineType(name, cpus, int(_FAMILIES[match[1]][match[2]] * cpus * 1024))


def machine_types() -> list[str]:
    """All names, sorted."""
    sized = [f"{f}-{k}-{n}" for f, kinds in _FAMILIES.items() for k in kinds for n in _SIZES]
    return sorted([*sized, *_OTHERS])


def region_of(zone: str) -> str:
    """The region of a zone."""
    return zone.rpartition("-")[0]


def default_quotas() -> dict[str, float]:
    """Limits of a region of a project whose limits were raised a little."""
    cpus = {f"{family.upper()}_CPUS": 2400.0 for family in ("n2", "n2d", "c2", "c2d", "c3", "t2d")}
    gpus = {f"{_gpu_metric(name)}": 8.0 for name in ACCELERATORS}
    spot = {f"PREEMPTIBLE_{name}": limit for name, limit in gpus.items()}
    more = {"INSTANCES": 6000.0, "IN_USE_ADDRESSES": 575.0, "DISKS_TOTAL_GB": 102400.0}
    first = {"CPUS": 2400.0, "PREEMPTIBLE_CPUS": 4800.0, "SSD_TOTAL_GB": 81920.0}
    groups = {"INSTANCE_GROUP_MANAGERS": 2000.0, "INSTANCE_GROUPS": 2000.0}
    return {**first, **cpus, **gpus, **spot, **more, **groups}


def needed_quotas(
    kind: MachineType, spot: bool, accelerators: dict[str, int], disk_gb: int, public: bool
) -> dict[str, float]:
    """What one machine takes of its region's quotas, by metric."""
    family = kind.name.partition("-")[0]
    cpu = f"{family.upper()}_CPUS"
    metric = cpu if cpu in default_quotas() else "CPUS"
    needed: dict[str, float] = {"PREEMPTIBLE_CPUS" if spot else metric: kind.cpus, "INSTANCES": 1}
    carried = dict(accelerators)
    if kind.accelerator:
        carried[kind.accelerator] = carried.get(kind.accelerator, 0) + kind.accelerators
    for name, count in carried.items():
        gpu = _gpu_metric(name)
        needed[f"PREEMPTIBLE_{gpu}" if spot else gpu] = count
    needed["SSD_TOTAL_GB"] = disk_gb
    if public:
        needed["IN_USE_ADDRESSES"] = 1
    return needed


def _gpu_metric(name: str) -> str:
    short = name.removeprefix("nvidia-").removeprefix("tesla-").partition("-")[0].upper()
    return f"NVIDIA_{short}_GPUS"


@dataclass
class Catalogue:
    """What this emulated cloud offers; tests take things away.

    Attributes:
        zones: Names of zones that are up.
        missing: ``zone/machine-type`` or ``zone/accelerator-type`` that a zone does not have.
        quotas: Region to metric to limit, where not the default.
        images: Images of the project, by name; families of public projects always exist.
        image_labels: Labels of each image.
        networks: Networks and subnetworks, by name. ``*`` in either stands for any name.
    """

    zones: list[str] = field(
        default_factory=lambda: [f"{r}-{z}" for r, letters in REGIONS.items() for z in letters]
    )
    missing: set[str] = field(default_factory=set)
    quotas: dict[str, dict[str, float]] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    image_labels: dict[str, str] = field(default_factory=dict)
    networks: set[str] = field(default_factory=lambda: {"default"})

    def has(self, zone: str, name: str) -> bool:
        """Whether a zone has a machine or accelerator type."""
        known = machine_type(name) is not None or name in ACCELERATORS
        return zone in self.zones and known and f"{zone}/{name}" not in self.missing

    def limits(self, region: str) -> dict[str, float]:
        """Quota limits of a region."""
        return {**default_quotas(), **self.quotas.get(region, {})}
