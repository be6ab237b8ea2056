"""Pinned packages of an experiment, installed beside the worker's own environment.

``pip install --target`` would download every dependency again, torch included. So a dry run of pip
first reports what this environment lacks (as JSON), and then exactly that is installed, without
dependencies.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from drillyard.errors import InfrastructureError, UserError
from drillyard.system.files import locked, replacing

_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._,\s-]+\])?\s*===?\s*[A-Za-z0-9.!+_*-]+\Z"
)
_NOT_FOUND = re.compile(r"No matching distribution found for (?P<name>\S+)")
_AWAY = re.compile(
    r"Could not fetch URL (?P<url>\S+): "
    r"(?=(proxy )?connection error|.*(Max retries exceeded|timed out|didn't respond within)"
    r"|.*5\d\d Server Error)"
)
"""In pip's log: in what pip prints, an index that does not answer looks like one that lacks the
package."""
_TIMEOUT_S = 1800.0


def check_requirements(requirements: list[str]) -> None:
    """Refuse requirements that are not pinned.

    Raises:
        UserError: A requirement is not of the form ``name==version``.
    """
    for line in requirements:
        if not _PINNED.match(line.strip()) or "*" in line:
            raise UserError(
                f"requirement {line!r} is not pinned",
                hint="write name==version, so that every worker gets the same",
            )


def install_requirements(requirements: list[str], folder: Path) -> Path:
    """Install packages into a folder of their own.

    Args:
        requirements: ``name==version`` each.
        folder: Parent of the folder to create; several processes may race.

    Returns:
        The folder to put on ``sys.path``.

    Raises:
        UserError: Not pinned, not found, or pip is missing; the message names the package.
        InfrastructureError: The package index does not answer.
    """
    check_requirements(requirements)
    lines = sorted({line.strip() for line in requirements})
    digest = hashlib.sha256("\n".join([sys.version, *lines]).encode()).hexdigest()[:16]
    target = folder / f"packages-{digest}"
    with locked(folder / "packages.lock"):
        if target.is_dir():
            return target
        with (
            tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as scratch,
            replacing(target) as site,
        ):
            missing = _missing(lines, Path(scratch))
            site.mkdir()
            if missing:
                options = ["install", "--no-deps", "--target", str(site)]
                _pip([*options, *missing], lines, Path(scratch))
    return target


def _missing(lines: list[str], scratch: Path) -> list[str]:
    """``name==version`` of what this environment lacks, dependencies included."""
    report = scratch / "report.json"
    _pip(["install", "--dry-run", "--report", str(report), *lines], lines, scratch)
    entries = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [f"{item['metadata']['name']}=={item['metadata']['version']}" for item in entries]


def _pip(arguments: list[str], lines: list[str], scratch: Path) -> None:
    log = scratch / "pip.log"
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--log", str(log)]
    try:
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InfrastructureError(
            f"installing {', '.join(lines)} took more than {_TIMEOUT_S / 60:.0f} minutes"
        ) from None
    if done.returncode == 0:
        return
    logged = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    away = _AWAY.search(logged)
    if away:
        raise InfrastructureError(
            f"requirement {', '.join(lines)} cannot be installed now: the package index does not "
            f"answer ({away['url']})",
            hint="on a machine without a way to the index, use an image that has the packages",
        )
    output = done.stderr + done.stdout
    missing = _NOT_FOUND.search(output)
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if "ERROR" in line]
    if missing:
        what = f"requirement {missing['name']} cannot be found"
    else:
        named = [w for w in lines if w.partition("=")[0].strip().lower() in output.lower()]
        what = f"requirement {', '.join(named or lines)} cannot be installed"
    last = (errors or output.strip().splitlines() or ["pip printed nothing"])[0]
    raise UserError(
        f"{what}: {last}", hint="check name and version, and that the package index is reachable"
    )
