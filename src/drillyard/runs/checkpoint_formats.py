"""Checks that the files of a checkpoint have the form in which drillyard writes them.

The checks need no torch and execute nothing. Three kinds are known: JSON, ``.npz`` without
compression and without objects, ``.safetensors``. Everything else, above all a pickle, is refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from drillyard.documents.json_types import Json

MAX_MEMBERS = 10_000
MAX_DEPTH = 100
_OF_A_MAPPING = r"(?:obs_(?:mean|var|count)|(?:next_)?observations)\..{1,200}"
_MEMBER = re.compile(rf"(?:[A-Za-z0-9_]{{1,64}}|{_OF_A_MAPPING})\.npy\Z", re.DOTALL)
"""Names of ours. The normalisation and the replay buffer of a mapping have its keys in them, which
are the user's; no member is ever written to a disk."""
_PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
STATE = "state.json"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file."""

    message: str
    allowed: str
    field: str | None = None
    """The tensor or member with the problem, where it is one."""


def examine(files: Mapping[str, bytes]) -> Iterator[tuple[str, Problem]]:
    """(name, problem) of every file that must not be read; none for a good checkpoint.

    Args:
        files: Name -> content, whole.
    """
    for name, data in files.items():
        problem = _one(name, data)
        if problem is not None and problem.field is not None:
            where = _place(files.get(STATE, b""), problem.field)
            problem = Problem(problem.message, problem.allowed, where or problem.field)
        if problem is not None:
            yield name, problem


def _one(name: str, data: bytes) -> Problem | None:
    problem = None
    for ending, examined in ((".json", _json), (".npz", _npz), (".safetensors", _safetensors)):
        if name.endswith(ending):
            problem = examined(data)
            if problem is None:
                # The first bytes of a good .safetensors are a length, and may be any number.
                return None
    if data[:2] in _PICKLES:
        return Problem(
            "holds a pickle, which can run anything",
            "JSON, .npz and .safetensors as drillyard writes them",
        )
    return problem


def _json(data: bytes) -> Problem | None:
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        return Problem(f"is not JSON ({_looks(data)}): {error}", "JSON")
    return None


def _npz(data: bytes) -> Problem | None:
    allowed = f"an .npz with at most {MAX_MEMBERS:,} arrays, not compressed"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                return Problem(f"has {len(members):,} members", allowed)
            for member in members:
                name = member.filename[:80]
                if not _MEMBER.match(member.filename):
                    return Problem(f"has a member called {name!r}", allowed)
                if member.compress_type != zipfile.ZIP_STORED:
                    return Problem(
                        f"{name} unpacks to {member.file_size:,} bytes of "
                        f"{member.compress_size:,}",
                        allowed,
                    )
                with archive.open(member) as file:
                    if b"'descr': '|O'" in file.read(256):
                        return Problem(f"{name} holds Python objects, a pickle", allowed)
            torn = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return Problem(f"is not an .npz file ({_looks(data)}): {error}", allowed)
    return Problem(f"{torn} fails its checksum", allowed) if torn else None


def _safetensors(data: bytes) -> Problem | None:
    allowed = "safetensors with finite numbers"
    try:
        length = int.from_bytes(data[:8], "little")
        if not 2 <= length <= len(data) - 8:
            raise ValueError(f"its header would have {length:,} of {len(data):,} bytes")
        header = json.loads(data[8 : 8 + length])
        body = memoryview(data)[8 + length :]
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            if not 0 <= first <= last <= len(body):
                raise ValueError(f"{name} ends at byte {last:,} of {len(body):,}")
            kind = _FLOATS.get(entry["dtype"])
            numbers = np.frombuffer(body[first:last], kind) if kind else np.zeros(0)
            bad = np.flatnonzero(~np.isfinite(numbers))
            if bad.size:
                return Problem(
                    f"{bad.size:,} of {numbers.size:,} numbers are not finite; shape "
                    f"{tuple(entry['shape'])}, the first is {numbers[bad[0]]}",
                    allowed,
                    name,
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Problem(f"is not a safetensors file ({_looks(data)}): {error}", allowed)
    return None


def _looks(data: bytes) -> str:
    """What a file looks like whose content does not fit its name."""
    start = data[:200].lstrip().lower()
    if not start:
        return "it is empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is an HTML page"
    if start.startswith(b"pk\x03\x04"):
        return "it is a zip archive"
    return f"it begins with {data[:12]!r}"


def _place(state: bytes, name: str) -> str | None:
    """Where a tensor belongs in the state: ``model.modules.policy.action_net.weight``."""
    try:
        tree = json.loads(state)["tree"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    stack: list[tuple[Json, tuple[str, ...]]] = [(tree, ())]
    while stack:
        item, path = stack.pop()
        if len(path) > MAX_DEPTH:
            return None
        if isinstance(item, dict):
            if item.get("$tensor") == name:
                return ".".join(path)
            stack.extend((v, (*path, str(k))) for k, v in item.items())
        elif isinstance(item, list):
            stack.extend((v, (*path, str(i))) for i, v in enumerate(item))
    return None
