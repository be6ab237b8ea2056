"""Drillyard's own wheel on its way to rented machines: packed here, named by its hash.

A rented machine works with the drillyard that rented it. What runs here, installed or a checkout,
is packed into a wheel and put into the store beside the code archive; the machine's start script
reads it from there, verifies its hash, and starts the worker from it
(``drillyard_backends.from_wheel``). A machine's image holds what drillyard needs, and need not be
made anew when drillyard changes.
"""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox, open_store

PACKAGES = ("drillyard", "drillyard_backends", "drillyard_flows", "drillyard_tasks")
"""What the distribution ``drillyard`` consists of. No emulator: machines have no use for it."""
_LEFT_OUT = frozenset({"ASSUMPTIONS.md"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP file can hold: the same content gives the same file."""


@dataclass(frozen=True)
class Wheel:
    """A wheel.

    Attributes:
        sha256: Of the file; its name in the store.
        data: The file.
    """

    sha256: str
    data: bytes


@functools.cache
def pack() -> Wheel:
    """Pack the drillyard that runs here; what pip's ``install`` takes.

    Raises:
        InfrastructureError: Drillyard was not installed, or not as files.
    """
    try:
        installed = metadata.distribution("drillyard")
    except metadata.PackageNotFoundError:
        raise InfrastructureError(
            "drillyard cannot be packed for rented machines: it runs here without being installed",
            hint="pip install drillyard; in a checkout `make demo`",
        ) from None
    info = f"drillyard-{installed.version}.dist-info"
    files = dict(_files())
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (installed.read_text(name) or "").encode()
    for path in installed.files or ():
        if path.parts[:2] == (info, "licenses"):
            files[path.as_posix()] = path.read_binary()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: drillyard\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    rows.writerows([name, _hashed(data), len(data)] for name, data in sorted(files.items()))
    rows.writerow([f"{info}/RECORD", "", ""])
    files[f"{info}/RECORD"] = record.getvalue().encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    data = packed.getvalue()
    return Wheel(hashlib.sha256(data).hexdigest(), data)


def send(order: Order) -> str:
    """Put the wheel where the machines of a lease read it; what is there is not sent again.

    Args:
        order: Names store and experiment.

    Returns:
        Its key in the store, which ends with ``<sha256>.whl``.

    Raises:
        InfrastructureError: It cannot be packed, or the store does not answer.
    """
    wheel = pack()
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    key = mailbox.key(f"code/{wheel.sha256}.whl")
    there = mailbox.store.stat(key)
    if there is None or there.size != len(wheel.data):
        mailbox.store.put(key, wheel.data)
    return key


def _files() -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        folders = list(found.submodule_search_locations or ()) if found else []
        if not folders or not Path(folders[0]).is_dir():
            raise InfrastructureError(
                f"drillyard cannot be packed for rented machines: {package} is not a folder here"
            )
        root = Path(folders[0])
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
            if path.is_file() and not hidden and path.name not in _LEFT_OUT:
                yield f"{package}/{inside.as_posix()}", path.read_bytes()


def _hashed(data: bytes) -> str:
    """As a wheel's RECORD has it: URL-safe base64 without padding."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"
