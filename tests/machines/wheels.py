"""Wheelhouses for bare machines, made as the page says and kept for the one who runs the tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from tests.helpers import process_rules, rules
from tests.helpers.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
_ENVIRONMENT = dict(os.environ)
"""Before a test points this process to an emulated cloud."""


def others(cache: Path, extras: str) -> Path:
    """The wheels of everything that drillyard needs, and pip's, without drillyard's own.

    Args:
        cache: The user's folder.
        extras: Of drillyard, between commas.
    """
    named = (LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), extras, sys.version)
    place = cache / f"wheels-{hashlib.sha256(repr(named).encode()).hexdigest()[:16]}"
    with FileLock(f"{place}.lock"):
        if not place.is_dir():
            unfinished = place.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            _pip(unfinished, "-c", str(LOCK), f"{ROOT}[{extras}]", "pip")
            for path in unfinished.glob("drillyard-*.whl"):
                path.unlink()
            unfinished.rename(place)
    return place


def wheelhouse(folder: Path, cache: Path, extras: str) -> Path:
    """A folder with the wheel of this very tree, and those of all that it needs.

    Args:
        folder: An empty folder.
        cache: The user's folder.
        extras: Of drillyard, between commas.
    """
    for path in others(cache, extras).iterdir():
        (folder / path.name).symlink_to(path)
    _pip(folder, "--no-deps", "--no-build-isolation", str(ROOT))
    return folder


def _pip(folder: Path, *arguments: str) -> None:
    """Build wheels; the index may be asked, which other processes of tests may not do."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(folder), *arguments],
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
        cwd=tempfile.gettempdir(),
        env={**_ENVIRONMENT, process_rules.EXEMPT: "an index", "PYTHONPATH": rules.path()},
    )
