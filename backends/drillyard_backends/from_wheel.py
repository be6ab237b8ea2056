"""``python -m drillyard_backends.from_wheel WHEEL MODULE``: a machine's program, from a wheel.

Runs out of the wheel itself (``PYTHONPATH=WHEEL``) on a machine whose environment has what
drillyard needs, and perhaps another version of drillyard. It unpacks the wheel into a new folder,
puts that in front of everything that is installed, and becomes the program. The script that
fetched the wheel has verified its hash.

Only the standard library is imported here: nothing else is known to be there.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

REFUSED = "drillyard cannot start: "
"""Prefix of the reason on standard error: another machine like this one would fail, too."""


def start(wheel: str, module: str) -> None:
    """Becomes ``python -m MODULE`` with the wheel's drillyard.

    Args:
        wheel: Path of the wheel.
        module: Module to run.

    Raises:
        SystemExit: This environment lacks packages that the wheel requires.
    """
    folder = tempfile.mkdtemp(prefix="drillyard-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    lacking = missing(Path(folder))
    if lacking:
        sys.exit(f"{REFUSED}this environment lacks {', '.join(lacking)}")
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [folder, *(entry for entry in others if entry not in ("", wheel))]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module])


def missing(folder: Path) -> list[str]:
    """Returns the packages that an unpacked wheel requires and this environment lacks.

    Args:
        folder: Folder with the ``.dist-info``.

    Returns:
        Names of packages; Python itself first if it is too old. Versions of packages are not
        compared: nothing in the standard library can read their rules.
    """
    text = next(folder.glob("drillyard-*.dist-info")).joinpath("METADATA").read_text("utf-8")
    message = Parser().parsestr(text, headersonly=True)
    lacking = []
    least = re.match(r">=(\d+)\.(\d+)", message.get("Requires-Python", ""))
    if least and sys.version_info[:2] < (int(least[1]), int(least[2])):
        lacking.append(f"Python {least[1]}.{least[2]} (this is {sys.version.split()[0]})")
    for line in message.get_all("Requires-Dist", []):
        name = re.match(r"[\w.-]+", line)
        if name and "extra ==" not in line and not _installed(name[0]):
            lacking.append(name[0])
    return lacking


def _installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    start(*sys.argv[1:3])
