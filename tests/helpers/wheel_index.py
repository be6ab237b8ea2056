"""Packages of the tests' own, as a folder of wheels that plays a package index."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

_EXTRA = re.compile(r"extra == '(\w+)'")


def wheel(
    folder: Path,
    name: str,
    version: str,
    *requires: str,
    tag: str = "py3-none-any",
    more: Mapping[str, str] | None = None,
) -> None:
    """A wheel by hand: no network, no build.

    Args:
        folder: Where to.
        name: Of the package, and of its only module.
        version: Its version.
        *requires: What it needs.
        tag: The machines that it is for.
        more: Other files, in place of the module.
    """
    info = f"{name}-{version}.dist-info"
    files = {
        **(more or {f"{name}.py": f"VERSION = {version!r}\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Provides-Extra: {name}\n" for name in _EXTRA.findall(" ".join(requires)))
        + "".join(f"Requires-Dist: {r}\n" for r in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\n"
        f"Tag: {tag}\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{path},sha256={digest.decode()},{len(text)}\n"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")


def source_only(folder: Path, name: str, version: str) -> None:
    """A package without a wheel."""
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))


def serve(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Lets pip find packages in this folder alone."""
    settings = {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": os.devnull}
    for name, value in settings.items():
        patch.setenv(f"PIP_{name}", value)


NEEDS = """schema: 1
name: needs
workload: script
script: {run: [needs.py], results: {stdout: '^(\\w+)=([-+.\\deE]+)$'}}
requirements: [dy_root==2.0]
seeds: [1]
resources: {workers: 1}
budget: {max_hours: 1, max_cost: 5}
"""
"""An experiment whose program imports what ``requirements:`` bring."""


def needed(folder: Path, index: Path, patch: pytest.MonkeyPatch) -> Path:
    """Writes that experiment, and serves its packages to this computer alone.

    Args:
        folder: Gets the experiment.
        index: Gets the packages.
        patch: Of the test.
    """
    wheel(index, "dy_leaf", "1.5")
    wheel(index, "dy_root", "2.0", "dy_leaf>=1,<2", "numpy>=1.26")
    serve(index, patch)
    (folder / "needs.py").write_text(
        "import dy_leaf, dy_root\nprint(f'score={dy_root.VERSION}')\n"
    )
    (folder / "needs.yaml").write_text(NEEDS)
    return folder / "needs.yaml"
