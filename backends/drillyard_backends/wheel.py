"""Drillyard's own wheel for rented machines: packed here, named by its hash.

A rented machine works with the drillyard that rented it. The code that runs here, installed or a
checkout, is packed into a wheel and put into the store beside the code archive. The machine's
start script reads it from there, verifies its hash, and starts the worker from it
(``drillyard_backends.from_wheel``). A machine's image holds drillyard's dependencies and need not
be rebuilt when drillyard changes.
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
"""The packages of the distribution ``drillyard``. Machines do not need the emulators."""
_LEFT_OUT = frozenset({"ASSUMPTIONS.md"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP file can hold, so that the same content gives the same file."""


@dataclass(frozen=True)
class Wheel:
    """A wheel.

    Attributes:
        sha256: Hash of the file; its name in the store.
        data: Content of the file.
    """

    sha256: str
    data: bytes


@functools.cache
def pack() -> Wheel:
    """Packs the drillyard that runs here into a wheel that pip can install.

    Raises:
        InfrastructureError: Drillyard is not installed, or not as files.
    """
    try:
        installed = metadata.distribution("drillyard")
    except metadata.PackageNotFoundError:
        raise InfrastructureError(
            "drillyard cannot be packed for rented machines: it is not installed here",
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
    """Puts the wheel into the store of a lease's machines unless it is there.

    Args:
        order: The order, with store and experiment.

    Returns:
        Its key in the store, which ends with ``<sha256>.whl``.

    Raises:
        InfrastructureError: Packing fails, or the store does not answer.
    """
    wheel = pack()
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    key = mailbox.key(f"code/{wheel.sha256}.whl")
    stored = mailbox.store.stat(key)
    if stored is None or stored.size != len(wheel.data):
        mailbox.store.put(key, wheel.data)
    return key


def _files() -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
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
    """Returns a hash in the form of a wheel's RECORD: URL-safe base64 without padding."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"
