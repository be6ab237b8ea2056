"""Pinned packages of an experiment, installed beside the worker's own environment.

``pip install --target`` would download every dependency again, torch included. So a dry run of pip
first reports what this environment lacks (as JSON), and then exactly that is installed, without
dependencies. Rented machines take it from wheels in the store (``wheels``), others from an index.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.system.files import locked, replacing

_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._,\s-]+\])?\s*===?\s*[A-Za-z0-9.!+_*-]+\Z"
)
_NOT_FOUND = re.compile(r"No matching distribution found for (?P<name>\S+)")
_CONFLICT = re.compile(r"The conflict is caused by:\n(?P<sides>(?:\S+ {5}\S.*\n)+)")
"""In pip's log, each line begins with the time."""
_OF_MACHINE = re.compile(r"The user requested \(constraint\) (\S+)\+machine")
_PIP = ("-m", "pip")
_NO_PIP = re.compile(r"No module named '?pip")
_VERSIONS = re.compile(r"from versions: .*, (?=\S+, \S+, \S+\))")
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


def install_requirements(
    requirements: list[str], folder: Path, wheels: Path | None = None
) -> Path:
    """Install packages into a folder of their own.

    Args:
        requirements: ``name==version`` each.
        folder: Parent of the folder to create; several processes may race.
        wheels: The folder with the wheels; None: pip asks its index.

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
    source = [] if wheels is None else ["--no-index", "--find-links", str(wheels)]
    with locked(folder / "packages.lock"):
        if target.is_dir():
            return target
        with (
            tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as scratch,
            replacing(target) as site,
        ):
            report = dry_run([*source, *lines], lines, Path(scratch))
            missing = [
                f"{item['metadata']['name']}=={item['metadata']['version']}" for item in report
            ]
            site.mkdir()
            if missing:
                options = ["install", *source, "--no-deps", "--target", str(site)]
                pip([*options, *missing], lines, Path(scratch))
    return target


def dry_run(
    arguments: list[str], lines: list[str], scratch: Path, program: tuple[str, ...] = _PIP
) -> list[dict[str, Any]]:
    """Returns what pip would install, dependencies included: entries of its report.

    Args:
        arguments: Options and requirements.
        lines: The requirements, for messages.
        scratch: A local folder.
        program: How pip is called.

    Raises:
        UserError, InfrastructureError: As ``pip``.
    """
    report = scratch / "report.json"
    pip(["install", "--dry-run", "--report", str(report), *arguments], lines, scratch, program)
    entries: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return entries


def pip(
    arguments: list[str], lines: list[str], scratch: Path, program: tuple[str, ...] = _PIP
) -> str:
    """Calls pip, and returns what it printed.

    Args:
        arguments: Its command and options.
        lines: The requirements, for messages.
        scratch: A local folder, for pip's log.
        program: Arguments of Python that start pip.

    Raises:
        UserError: A package is not found, requirements contradict each other, or pip is missing.
        InfrastructureError: The package index does not answer.
    """
    log = scratch / "pip.log"
    command = [sys.executable, *program, "--no-input", "--disable-pip-version-check", "--quiet"]
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
        return done.stdout
    logged = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    hint = "check name and version, and that the package index is reachable"
    if "--no-index" in arguments:
        hint = (
            "this machine's image lacks what drillyard brings elsewhere, or has another version: "
            "name the package in `requirements:`, or use another image"
        )
    raise _failure(lines, done.stderr + done.stdout, logged, hint)


def _failure(lines: list[str], output: str, logged: str, hint: str) -> DrillyardError:
    """The error for what pip printed, and logged."""
    away = _AWAY.search(logged)
    if away:
        return InfrastructureError(
            f"requirement {', '.join(lines)} cannot be installed now: the package index does not "
            f"answer ({away['url']})",
            hint="on a machine without a way to the index, use an image that has the packages",
        )
    if conflict := _CONFLICT.search(logged):
        sides = [line.partition(" ")[2].strip() for line in conflict["sides"].splitlines()]
        text = _OF_MACHINE.sub(r"machines have \1", "; ".join(sides))
        return UserError(
            f"the requirements contradict each other: {text}",
            hint="choose other versions in `requirements:`; it may also name a package that "
            "drillyard brings, in another version",
        )
    if _NO_PIP.search(output):
        text = f"{', '.join(lines)} cannot be installed: {sys.executable} has no pip"
        return UserError(text, hint="python -m ensurepip; or, with uv: uv pip install pip")
    missing = _NOT_FOUND.search(output)
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if "ERROR" in line]
    errors = [text for text in errors if not text.startswith("Ignored")] or errors
    if missing:
        what = f"requirement {missing['name']} cannot be found"
    else:
        named = [w for w in lines if w.partition("=")[0].strip().lower() in output.lower()]
        what = f"requirement {', '.join(named or lines)} cannot be installed"
    last = (errors or output.strip().splitlines() or ["pip printed nothing"])[0]
    return UserError(f"{what}: {_VERSIONS.sub('from versions: … ', last)}", hint=hint)
