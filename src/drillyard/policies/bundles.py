"""Bundles on disk: written whole or not at all, read after their hashes were compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, CorruptObject, NotFound, UserError
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.simulators.channels import ChannelJson
from drillyard.system.files import replacing
from drillyard.system.output_files import check_file, writing

INDEX = "bundle.json"
LEARNER_FILE = "learner.json"
SCHEMA_VERSION = 1


class Chosen(TypedDict):
    """How a run was chosen among several."""

    of: int
    """Evaluated runs."""
    fresh: JsonObject
    """Summary of its fresh episodes."""


class Facts(TypedDict, total=False):
    """Where a bundle is from, and what was measured."""

    format: str
    drillyard: str
    experiment: str
    run: str
    policy: str
    step: int
    algorithm: str
    seed: int | None
    checked: int
    largest_difference: float | None
    c_difference: float | None
    seen: dict[str, tuple[float, float]]
    """Channel of the observation -> its range while the export was compared, in its unit."""
    lesson: JsonObject
    simulator: JsonObject
    chosen: Chosen


class BundleFile(TypedDict):
    """One file of a bundle."""

    sha256: str
    size: int


class Index(Facts, total=False):
    """``bundle.json``."""

    schema_version: int
    files: dict[str, BundleFile]


class Noise(TypedDict):
    """The input of random numbers."""

    kind: str
    size: int


class Plant(TypedDict, total=False):
    """What a simulator says about its plant."""

    step_s: float | None
    """Seconds between two actions."""
    hold: list[float] | None
    """The idle action; in a bundle in the units of its channels."""


class Described(Plant, total=False):
    """``spaces.json``."""

    schema_version: int
    observation: JsonObject
    action: JsonObject
    channels: dict[str, list[ChannelJson]]
    noise: Noise | None
    memory: tuple[int, int] | None
    masks: int | None


def write(folder: Path, files: Mapping[str, bytes], facts: Facts) -> None:
    """Write a bundle beside its place, then move it there.

    Args:
        folder: Folder to create; must not exist.
        files: Name -> content.
        facts: Origin and measurements.

    Raises:
        UserError: The folder exists already, or cannot be created.
    """
    must_be_new(folder)
    index: Index = {
        "schema_version": SCHEMA_VERSION,
        **facts,
        "files": {n: {"sha256": sha256_hex(c), "size": len(c)} for n, c in files.items()},
    }
    with writing(folder, "--out"), replacing(folder) as scratch:
        scratch.mkdir()
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        (scratch / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True))


def must_be_new(folder: Path) -> None:
    """Refuses a folder that a bundle cannot be written to, before any work.

    Raises:
        UserError: It exists already, its parent does not, or it is not writable.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already", hint="name another with --out, or delete it")
    check_file(folder, "--out")


def identity(index: Index) -> str:
    """sha256 over a policy's arguments, weights and normalisation, however it was exported.

    Args:
        index: Index of its bundle.
    """
    parts = {
        name: entry["sha256"]
        for name, entry in index["files"].items()
        if name == LEARNER_FILE or name.endswith((".safetensors", ".npz"))
    }
    return sha256_hex(json.dumps(parts, sort_keys=True).encode())


def must_act(folder: Path, index: Index) -> None:
    """Refuses a bundle that only drillyard and torch can use.

    Raises:
        ConfigError: It holds no ONNX.
    """
    if index.get("format") != "onnx":
        raise ConfigError(
            "is not an ONNX bundle",
            file=str(folder),
            value=index.get("format"),
            allowed="onnx",
            hint="export it with --format onnx",
        )


def read(folder: Path) -> tuple[Index, dict[str, bytes]]:
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
            f"{folder} is not a drillyard bundle: {why}",
            hint="`drillyard export` makes one; models of other programs go through "
            "`drillyard import`",
        )
    try:
        index: Index = json.loads(path.read_text(encoding="utf-8"))
        hashes = {str(n): str(e["sha256"]) for n, e in index["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObject(f"{path} is damaged: {error}") from error
    files = {}
    for name, sha in hashes.items():
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
