"""The file of an FMU: it is checked before anything in it is extracted, loaded or compiled."""

from __future__ import annotations

import io
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path

from drillyard.errors import SimulatorError
from drillyard.system.optional_packages import must_have

DESCRIPTION = "modelDescription.xml"
MAX_BYTES = 4 << 30
"""Extracted; a small archive can hold any number of zeros."""
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


def refused(path: Path, message: str, hint: str, *, field: str = "simulator.id") -> SimulatorError:
    """What is wrong with an FMU."""
    return SimulatorError(message, field=field, value=path.name, hint=hint)


def check(path: Path) -> list[str]:
    """The names in an FMU, after all of them and its description were checked.

    Raises:
        SimulatorError: It is not an FMU, or it would write outside its folder.
        PackagesMissing: FMPy is not installed.
    """
    must_have("fmu", f"the simulator {path.name}")
    again = "export the model again"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                if leaves(entry.filename) or stat.S_ISLNK(entry.external_attr >> 16):
                    raise refused(
                        path,
                        f"has an entry outside its folder: {entry.filename!r}; nothing was "
                        "extracted",
                        f"do not use this file; {again}, or ask its author for another one",
                    )
            names = [entry.filename for entry in entries]
            last = {entry.filename: entry for entry in entries}  # it is what is read
            twice = sorted({e.filename for e in entries if _sum(e) != _sum(last[e.filename])})[:3]
            if twice:
                raise refused(
                    path, f"has entries twice, with other content: {', '.join(twice)}", again
                )
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise refused(path, f"is larger than {MAX_BYTES >> 30} GiB when extracted", again)
            if DESCRIPTION not in names:
                raise refused(path, f"has no {DESCRIPTION}", f"{again} as an FMU")
            _check_xml(path, archive.read(DESCRIPTION))
    except _BROKEN as error:
        raise refused(path, f"cannot be read as an FMU: {error}", again) from error
    return names


def extract(path: Path) -> Path:
    """Extracts a checked FMU into a new temporary folder.

    Raises:
        SimulatorError: The archive is damaged, or there is no room.
    """
    # Below the temporary folder of the attempt, which is deleted even after kill -9.
    folder = Path(tempfile.mkdtemp(prefix="fmu-"))
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, _BROKEN):
            raise refused(
                path,
                f"cannot be extracted: {error}",
                "copy the file again, or free space for temporary files",
            ) from error
        raise
    return folder


def leaves(name: str) -> bool:
    """Whether a name in an FMU is a path out of its folder."""
    rooted = name.startswith("/") or "\\" in name or ":" in name
    return rooted or ".." in name.split("/")


def _sum(entry: zipfile.ZipInfo) -> tuple[int, int]:
    return entry.CRC, entry.file_size


def _check_xml(path: Path, data: bytes) -> None:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        tree = etree.parse(io.BytesIO(data), parser)
    except etree.XMLSyntaxError as error:
        raise refused(path, f"{DESCRIPTION}: {error}", "export the model again") from error
    if tree.docinfo.doctype:
        raise refused(
            path,
            f"{DESCRIPTION} declares a document type, which can read files of this machine",
            "remove <!DOCTYPE …>, which FMI does not need",
        )
