"""Optional packages: the command that installs them where drillyard runs now."""

from __future__ import annotations

import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from drillyard.errors import PluginError

_WANTED = re.compile(
    r"(?P<name>[\w.-]+)(\[(?P<extras>[\w,-]+)\])?.*extra == ['\"](?P<extra>[\w-]+)['\"]"
)
"""A requirement of an extra, as the metadata of a package has it."""


def install(extra: str) -> str:
    """What to type to get an extra.

    Args:
        extra: Its name in ``pyproject.toml``.

    Returns:
        A line of a shell. It names the interpreter where ``pip`` alone would be another
        environment's, as it is for whoever types ``.venv/bin/drillyard``.
    """
    pip = shutil.which("pip")
    # Not resolved: an environment's interpreter is a link to the system's.
    own = pip is not None and Path(pip).parent == Path(sys.executable).parent
    return f"{'pip' if own else f'{sys.executable} -m pip'} install 'drillyard[{extra}]'"


def missing(extra: str) -> list[str]:
    """Packages of an extra that are not installed here.

    Args:
        extra: Its name; one that drillyard does not have needs nothing.

    Returns:
        Their names on the package index, sorted.
    """
    found: set[str] = set()
    if not extra or not _there("drillyard"):
        return []
    for line in metadata.requires("drillyard") or []:
        wanted = _WANTED.match(line)
        if wanted is None or wanted["extra"] != extra:
            continue
        if wanted["name"] == "drillyard":
            found.update(*(missing(one) for one in (wanted["extras"] or "").split(",")))
        elif not _there(wanted["name"]):
            found.add(wanted["name"])
    return sorted(found)


def must_have(extra: str, what: str) -> None:
    """Refuse what needs packages that are not installed.

    Args:
        extra: The one that brings them.
        what: Who needs them, for the message.

    Raises:
        PluginError: With their names, and how to install them.
    """
    if lacking := missing(extra):
        raise PluginError(
            f"{what} needs packages that are not installed: {', '.join(lacking)}",
            hint=install(extra),
        )


def _there(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
