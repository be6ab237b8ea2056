"""What the installation of a package brings, by what is installed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

LINUX = {
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
}
"""What conditions of requirements ask of a machine, without its Python."""


def closure(
    name: str, extras: tuple[str, ...] = (), environment: Mapping[str, str] = LINUX
) -> dict[str, str]:
    """Returns a package and what its installation brings on a machine, as far as it is known here.

    Args:
        name: The package.
        extras: Its extras that are installed too.
        environment: Answers to conditions of requirements; this Python answers the others.

    Returns:
        Normal name -> version that is installed here; else the lowest that is accepted, or "".
    """
    packages: dict[str, str] = {}
    there = places()
    done: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), extra, "") for extra in ("", *extras)]
    while waiting:
        package, extra, least = waiting.pop()
        if (package, extra) in done:
            continue
        done.add((package, extra))
        version, requirements = _installed(package, there)
        packages[package] = version or packages.get(package, least)
        for needed in requirements:
            if needed.marker and not needed.marker.evaluate({**environment, "extra": extra}):
                continue
            lowest = [s.version for s in needed.specifier if s.operator == ">="]
            waiting += [
                (canonicalize_name(needed.name), inner, lowest[0] if lowest else "")
                for inner in ("", *needed.extras)
            ]
    return packages


def places() -> tuple[tuple[str, int], ...]:
    """Returns the folders that have packages, and when each last changed."""
    folders = [folder for folder in map(Path, sys.path) if any(folder.glob("*.*-info"))]
    return tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders)


@cache
def _installed(package: str, _: tuple[tuple[str, int], ...]) -> tuple[str, list[Requirement]]:
    """The version and the requirements of a package, read again when a folder has changed."""
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return "", []
    return found.version, parsed(found.requires or [])


def parsed(lines: Iterable[str]) -> list[Requirement]:
    """Returns the requirements that can be read."""
    requirements = []
    for line in lines:
        with suppress(InvalidRequirement):
            requirements.append(Requirement(line.strip()))
    return requirements


def named(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns the packages that requirements name, in normal form, and the extras of each."""
    return {canonicalize_name(r.name): tuple(sorted(r.extras)) for r in parsed(lines)}
