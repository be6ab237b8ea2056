"""Files of results: written under an attempt, hashed on the way, verified when read."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from drillyard.errors import CorruptObject, StoreUnavailable
from drillyard.mailbox.mailbox import Mailbox, sha256_hex
from drillyard.mailbox.records import FileEntry
from drillyard.mailbox.store import ObjectMissing, Store

IN_MEMORY = 16 << 20
"""A file of at most so many bytes is verified in memory, a larger one on the local disk."""
_CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """sha256 of a file, hexadecimal, without holding it in memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def save_file(mailbox: Mailbox, path: str, source: bytes | Path) -> FileEntry:
    """Write an object of an experiment.

    Args:
        mailbox: Where.
        path: Key relative to the experiment's folder.
        source: Bytes, or a local file.

    Returns:
        Its entry for a manifest. It is true of what is stored, also if another process writes to
        the local file meanwhile.

    Raises:
        FileNotFoundError: The local file was deleted meanwhile.
    """
    if isinstance(source, bytes):
        mailbox.store.put(mailbox.key(path), source)
        return FileEntry(key=path, sha256=sha256_hex(source), size=len(source))
    before = _stamp(source)
    digest = sha256_file(source)
    try:
        mailbox.store.upload(mailbox.key(path), source)
    except StoreUnavailable as error:
        if not source.exists():
            raise FileNotFoundError(str(source)) from error
        raise
    # Where times have whole seconds (exFAT, old servers of NFS), they can miss a write.
    coarse = before[0] % 1_000_000_000 == 0
    if _stamp(source) != before or (coarse and sha256_file(source) != digest):
        with tempfile.TemporaryDirectory(prefix="drillyard-save-", dir=source.parent) as folder:
            return save_file(mailbox, path, Path(shutil.copyfile(source, Path(folder) / "file")))
    return FileEntry(key=path, sha256=digest, size=before[1])


def _stamp(path: Path) -> tuple[int, int]:
    """Changes whenever a file is written to: when it was changed, and its size."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def verify_file(mailbox: Mailbox, entry: FileEntry) -> None:
    """Read a stored file and compare its hash, without holding a large one in memory.

    Raises:
        CorruptObject: It is missing or was changed.
    """
    if entry.size <= IN_MEMORY:
        mailbox.read_entry(entry)
        return
    with tempfile.TemporaryDirectory(prefix="drillyard-verify-") as folder:
        fetch_file(mailbox, entry, Path(folder) / "file")


def fetch_file(mailbox: Mailbox, entry: FileEntry, path: Path) -> None:
    """Read an object into a local file and verify it.

    Raises:
        CorruptObject: It is missing or was changed.
    """
    try:
        mailbox.store.download(mailbox.key(entry.key), path)
    except ObjectMissing:
        raise CorruptObject(f"{entry.key} is missing from {mailbox.store.url}") from None
    if sha256_file(path) != entry.sha256:
        path.unlink(missing_ok=True)
        raise CorruptObject(f"{entry.key} was changed: its sha256 is not the manifest's")


def has_file(store: Store, key: str, entry: FileEntry, scratch: Path) -> bool:
    """Whether an object is what its entry says, found by reading it.

    Args:
        store: Where.
        key: The whole key.
        entry: Size and sha256.
        scratch: A local path that may be written to.
    """
    info = store.stat(key)
    if info is None or info.size != entry.size:
        return False
    try:
        store.download(key, scratch)
        return sha256_file(scratch) == entry.sha256
    except ObjectMissing:
        return False
    finally:
        scratch.unlink(missing_ok=True)
