"""Optional packages: which are missing, and the command that installs them."""

from __future__ import annotations

import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from drillyard.errors import PackagesMissing

_WANTED = re.compile(
    r"(?P<name>[\w.-]+)(\[(?P<extras>[\w,-]+)\])?.*extra == ['\"](?P<extra>[\w-]+)['\"]"
)
"""A requirement of an extra, as in the metadata of a package."""


def install(extra: str) -> str:
    """The command that installs an extra.

    Args:
        extra: Its name in ``pyproject.toml``.

    Returns:
        A shell command. It names the interpreter if ``pip`` alone belongs to another environment,
        for example if the user calls ``.venv/bin/drillyard``.
    """
    pip = shutil.which("pip")
    # Not resolved: an environment's interpreter is a link to the system's.
    same = pip is not None and Path(pip).parent == Path(sys.executable).parent
    return f"{'pip' if same else f'{sys.executable} -m pip'} install 'drillyard[{extra}]'"


def missing(extra: str) -> list[str]:
    """Packages of an extra that are not installed here.

    Args:
        extra: Its name; an unknown extra has no packages.

    Returns:
        Their names on the package index, sorted.
    """
    lacking: set[str] = set()
    if not extra or not _there("drillyard"):
        return []
    for line in metadata.requires("drillyard") or []:
        match = _WANTED.match(line)
        if match is None or match["extra"] != extra:
            continue
        if match["name"] == "drillyard":
            lacking.update(*(missing(name_) for name_ in (match["extras"] or "").split(",")))
        elif not _there(match["name"]):
            lacking.add(match["name"])
    return sorted(lacking)


def must_have(extra: str, what: str) -> None:
    """Check that the packages of an extra are installed.

    Args:
        extra: The extra.
        what: What needs it, for the message.

    Raises:
        PackagesMissing: Packages are missing; with their names and how to install them.
    """
    if lacking := missing(extra):
        raise PackagesMissing(
            f"{what} needs packages that are not installed: {', '.join(lacking)}",
            hint=install(extra),
        )


def _there(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
