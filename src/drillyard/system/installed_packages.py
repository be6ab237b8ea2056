"""What the installation of a package brings, by what is installed here."""

from __future__ import annotations

import re
from importlib import metadata

REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(\[(?P<extras>[^\]]*)\])?")
_EXTRA = re.compile(r"extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")
_ELSEWHERE = re.compile(
    r"(platform_system|sys_platform|os_name)\s*==\s*['\"](?!linux|posix)"
    r"|python_(full_)?version\s*<\s*['\"]3\.(\d|1[01])\b",
    re.IGNORECASE,
)
"""What a condition says that is true on no machine: these have Linux, and Python 3.11 or newer."""
_LEAST = re.compile(r">=\s*([\d.]+)")


def closure(name: str, extras: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns a package and what its installation brings on a machine, as far as it is known here.

    Args:
        name: The package.
        extras: Its extras that are installed too.

    Returns:
        Normal name -> version that is installed here; else the lowest that is accepted, or "".
    """
    packages: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(normal_name(name), extra, "") for extra in ("", *extras)]
    while waiting:
        package, extra, least = waiting.pop()
        if (package, extra) in done:
            continue
        done.add((package, extra))
        try:
            packages[package] = metadata.version(package)
            requirements = metadata.requires(package) or []
        except metadata.PackageNotFoundError:
            packages.setdefault(package, least)
            continue
        for line in requirements:
            requirement, _, marker = line.partition(";")
            of_extra = _EXTRA.search(marker)
            match = REQUIREMENT.match(requirement)
            if match is None or (of_extra["extra"] if of_extra else "") != extra:
                continue
            if _ELSEWHERE.search(marker) and " or " not in marker:
                continue
            inner = [name.strip() for name in (match["extras"] or "").split(",") if name.strip()]
            lowest = _LEAST.search(requirement)
            waiting += [
                (normal_name(match["name"]), name, lowest[1] if lowest else "")
                for name in ("", *inner)
            ]
    return packages


def normal_name(name: str) -> str:
    """Returns the form of a package's name that is the same for all its spellings."""
    return re.sub(r"[-_.]+", "-", name).lower()
