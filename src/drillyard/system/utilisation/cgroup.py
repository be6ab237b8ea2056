"""The limits of this process's control group, and what the group uses of them.

Files and units: "Control Group v2" and "Memory Resource Controller", "CPU Accounting Controller",
"CFS Bandwidth Control" (docs.kernel.org, admin-guide/cgroup-v2, cgroup-v1, scheduler/sched-bwc).
A limit of any group above counts too, and only together with the use of that same group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def memory(root: Path = Path("/")) -> tuple[int, int] | None:
    """(bytes that cannot be taken back, limit in bytes) of the tightest group; None without one.

    Pages of files that were not used lately are not counted: the kernel drops them first.

    Args:
        root: The root of the file system, for tests.
    """
    limits = []
    for folder, new in _groups(root, "memory"):
        limit = _number(folder / ("memory.max" if new else "memory.limit_in_bytes"))
        used = _number(folder / ("memory.current" if new else "memory.usage_in_bytes"))
        if limit is None or used is None or limit >= 1 << 60:  # v1 has no word for "no limit"
            continue
        idle = _entry(folder / "memory.stat", "inactive_file" if new else "total_inactive_file")
        limits.append((limit, max(0, used - (idle or 0))))
    if not limits:
        return None
    limit, used = min(limits)
    return used, limit


def processors(root: Path = Path("/")) -> tuple[float, float] | None:
    """(seconds of processor time so far, processors at once) of the tightest group, or None.

    Args:
        root: The root of the file system, for tests.
    """
    limits = []
    for folder, new in _groups(root, "cpu"):
        if new:
            quota, _, period = _text(folder / "cpu.max").partition(" ")
            limit = int(quota) / int(period) if quota.isdigit() and period.isdigit() else None
            spent = _entry(folder / "cpu.stat", "usage_usec")
            seconds = None if spent is None else spent / 1e6
        else:
            given, per = (_number(folder / f"cpu.cfs_{n}_us") for n in ("quota", "period"))
            limit = given / per if given is not None and given > 0 and per else None
            beside = root / "sys/fs/cgroup/cpuacct"
            mounted = beside / folder.relative_to(root / "sys/fs/cgroup/cpu")
            spent = _number(mounted / "cpuacct.usage")
            seconds = None if spent is None else spent / 1e9
        if limit is not None and seconds is not None:
            limits.append((limit, seconds))
    if not limits:
        return None
    limit, seconds = min(limits)
    return seconds, limit


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders of this process's group and of those above it, and whether they are v2."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, names, path = [*line.split(":", 2), "", ""][:3]
        new = number == "0" and not names
        if not new and controller not in names.split(","):
            continue
        top = mount if new else mount / controller
        group = top / path.strip("/")
        if ".." in group.parts or not group.is_dir():
            group = top  # a container that shows the host's path, and only its own files
        while group.is_relative_to(top):
            yield group, new
            group = group.parent


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _entry(path: Path, name: str) -> int | None:
    """A line ``name number`` of a file."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return None
