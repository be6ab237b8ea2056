"""Virtual environments like those of rented machines: all that is installed here but our own."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from tests.helpers.processes import run_process


def without_drillyard(prefix: Path) -> Path:
    """Make an environment that has what drillyard needs, and no drillyard; quick: it has links.

    Args:
        prefix: The folder that is made.

    Returns:
        Its interpreter.
    """
    run_process([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    names = {"base": str(prefix), "platbase": str(prefix)}
    link_others(Path(sysconfig.get_path("purelib", vars=names)))
    return prefix / "bin" / "python"


def link_others(folder: Path) -> None:
    """Link every package that is installed here, but our own, into a folder.

    Args:
        folder: Is made unless it is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place in (p for p in sys.path if p.endswith("-packages")):
        for path in Path(place).iterdir():
            target = folder / path.name
            if "drillyard" not in path.name and path.suffix != ".pth" and not target.exists():
                target.symlink_to(path)
