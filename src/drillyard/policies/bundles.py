"""Bundles on disk: written whole or not at all, read after their hashes were compared."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drillyard.errors import ConfigError, CorruptObject, NotFound, UserError
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.system.output_files import check_file, writing

INDEX = "bundle.json"
LEARNER_FILE = "learner.json"
SCHEMA_VERSION = 1


def write(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Write a bundle beside its place, then move it there.

    Args:
        folder: Is made; must not be there.
        files: Name -> content.
        facts: Where it is from, and what was measured.

    Raises:
        UserError: The folder is there already, or cannot be made.
    """
    must_be_new(folder)
    index = {
        "schema_version": SCHEMA_VERSION,
        **facts,
        "files": {n: {"sha256": sha256_hex(c), "size": len(c)} for n, c in files.items()},
    }
    with writing(folder, "--out"):
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
        try:
            for name, content in files.items():
                (scratch / name).write_bytes(content)
            (scratch / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True))
            scratch.chmod(0o755)
            os.rename(scratch, folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def must_be_new(folder: Path) -> None:
    """Refuse a folder that a bundle cannot be written to, before the work.

    Raises:
        UserError: It is there already, its parent is not, or it may not be written to.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already", hint="name another with --out, or delete it")
    check_file(folder, "--out")


def identity(index: Mapping[str, Any]) -> str:
    """sha256 over a policy's arguments, weights and normalisation, however it was exported.

    Args:
        index: Of its bundle.
    """
    parts = {
        name: entry["sha256"]
        for name, entry in index["files"].items()
        if name == LEARNER_FILE or name.endswith((".safetensors", ".npz"))
    }
    return sha256_hex(json.dumps(parts, sort_keys=True).encode())


def must_act(folder: Path, index: Mapping[str, Any]) -> None:
    """Refuse a bundle that nothing but drillyard and torch can act with.

    Raises:
        ConfigError: It holds no ONNX.
    """
    if index.get("format") != "onnx":
        raise ConfigError(
            "is no ONNX bundle",
            file=str(folder),
            value=index.get("format"),
            allowed="onnx",
            hint="export it with --format onnx",
        )


def read(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The index of a bundle and its files.

    Raises:
        NotFound: There is no bundle.
        CorruptObject: A file is missing, or is not the one that was written.
        ConfigError: The index names a place outside the bundle.
    """
    path = folder / INDEX
    if not path.is_file():
        why = f"it has no {INDEX}" if folder.is_dir() else "there is no such folder"
        raise NotFound(
            f"{folder} is no bundle of drillyard: {why}",
            hint="`drillyard export` makes one; models of other programs go through "
            "`drillyard import`",
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        wanted = {str(n): str(e["sha256"]) for n, e in index["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObject(f"{path} is damaged: {error}") from error
    files = {}
    for name, sha in wanted.items():
        if Path(name).name != name:
            raise ConfigError("names a place outside the bundle", file=str(path), value=name)
        try:
            files[name] = (folder / name).read_bytes()
        except OSError:
            raise CorruptObject(f"{folder / name} is missing from the bundle") from None
        if sha256_hex(files[name]) != sha:
            raise CorruptObject(
                f"{folder / name} was changed: its sha256 is not the index's",
                hint="export it again",
            )
    return index, files
