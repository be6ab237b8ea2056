"""Files that are written whole or not at all, and locks between processes of a machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from drillyard.system.operating_system import sync_folder

PRIVATE = 0o600
"""Mode of a file that only its owner reads."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a free name beside a path; what is there at the end takes the place of the path.

    After an exception nothing remains under the free name, and the path is as it was before.

    Args:
        path: A file, or a folder that does not exist yet. Its parent is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(beside) if beside.is_dir() else beside.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | str, mode: int = 0o666, *, sync: bool = False) -> Path:
    """Writes a file: whoever reads it meanwhile sees the old content or the new one.

    Args:
        path: The file. Its folder is created.
        content: What is in it; a text is written as UTF-8.
        mode: Rights of the file, of which the process's ``umask`` takes some away.
        sync: Return when file and folder are on the disk, so that a power cut loses neither.

    Returns:
        The path.
    """
    with replacing(path) as beside:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(beside, flags, mode), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    if sync:
        sync_folder(path.parent)
    return path


@contextlib.contextmanager
def locked(
    path: Path, wait_s: float = -1.0, busy: Exception | None = None, *, forget: bool = False
) -> Iterator[None]:
    """Holds a lock file, which the operating system releases when the process ends.

    Args:
        path: The file. Its folder is created.
        wait_s: Longest wait for another process or thread; below 0: without a limit.
        busy: Raised if another one holds it for longer.
        forget: Remove the file at the end, while the lock is held.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_s)
    try:
        lock.acquire()
    except Timeout as timeout:
        raise busy or timeout from None
    try:
        yield
    finally:
        if forget:
            path.unlink(missing_ok=True)
        lock.release()
