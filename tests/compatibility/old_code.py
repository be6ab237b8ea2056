"""Builds the code of the commit that wrote the stores, from the history of this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.process_rules import EXEMPT

ROOT = Path(__file__).parents[2]
COMMIT = "0fe6c37799c923e911856ca4a644edc33cbe6dae"
PARTS = ("pyproject.toml", "README.md", "src", "backends", "tasks", "flows", "deployments")
"""What the wheel of that commit is built from."""
PACKAGES = ("drillyard", "drillyard_backends", "drillyard_flows", "drillyard_tasks")


class NoHistory(Exception):
    """git cannot read the commit here: a shallow clone, or not a repository."""


def build(folder: Path) -> Path:
    """Build the old wheel without network and install it, without dependencies, into a folder.

    Args:
        folder: An empty folder.

    Returns:
        The folder for ``PYTHONPATH``. The command is in its ``bin``.

    Raises:
        NoHistory: git cannot read the commit here.
    """
    source, code = folder / "source", folder / "code"
    git = ["git", "-C", str(ROOT), "archive", "--format=tar", COMMIT, "--", *PARTS]
    packed = subprocess.run(git, capture_output=True, check=False)
    if packed.returncode != 0:
        raise NoHistory(packed.stderr.decode(errors="replace").strip())
    source.mkdir()
    subprocess.run(["tar", "-x", "-C", str(source)], input=packed.stdout, check=True)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(code), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    _check_that_it_wins(code)
    return code


def _check_that_it_wins(code: Path) -> None:
    """Make sure that a process with this ``PYTHONPATH`` imports every package from there."""
    program = f"import {', '.join(PACKAGES)}\nfor m in ({', '.join(PACKAGES)}): print(m.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(code), EXEMPT: "its warnings are of its time"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=code.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    places = done.stdout.split()
    assert len(places) == len(PACKAGES), places
    assert all(Path(place).is_relative_to(code) for place in places), places
