"""``python -m drillyard_backends.from_wheel WHEEL MODULE``: a machine's program, from a wheel.

Runs out of the wheel itself (``PYTHONPATH=WHEEL``) on a machine whose environment has what
drillyard needs, and drillyard perhaps in another version. It unpacks the wheel into a fresh
folder, puts that in front of everything that is installed, and becomes the program. Whoever
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
"""Before the reason, on the standard error: another machine like this one could not, either."""


def start(wheel: str, module: str) -> None:
    """Become ``python -m MODULE`` with the wheel's drillyard.

    Args:
        wheel: The file.
        module: What is run.

    Raises:
        SystemExit: This environment has not what the wheel requires.
    """
    folder = tempfile.mkdtemp(prefix="drillyard-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    lacking = missing(Path(folder))
    if lacking:
        sys.exit(f"{REFUSED}this environment lacks {', '.join(lacking)}")
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [folder, *(one for one in others if one not in ("", wheel))]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module])


def missing(folder: Path) -> list[str]:
    """What an unpacked wheel requires and this environment has not.

    Args:
        folder: With the ``.dist-info``.

    Returns:
        Names of packages; Python itself first, where it is too old. Versions of packages are not
        compared: nothing here can read their rules.
    """
    text = next(folder.glob("drillyard-*.dist-info")).joinpath("METADATA").read_text("utf-8")
    message = Parser().parsestr(text, headersonly=True)
    found = []
    least = re.match(r">=(\d+)\.(\d+)", message.get("Requires-Python", ""))
    if least and sys.version_info[:2] < (int(least[1]), int(least[2])):
        found.append(f"Python {least[1]}.{least[2]} (this is {sys.version.split()[0]})")
    for line in message.get_all("Requires-Dist", []):
        name = re.match(r"[\w.-]+", line)
        if name and "extra ==" not in line and not _there(name[0]):
            found.append(name[0])
    return found


def _there(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    start(*sys.argv[1:3])
