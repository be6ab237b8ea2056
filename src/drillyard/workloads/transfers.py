"""Copies between the working folder and a share: a local folder, or anything that has a store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from drillyard.errors import RunFailed
from drillyard.mailbox.keys import decoded, encoded
from drillyard.mailbox.store import Store, open_store
from drillyard.mailbox.temporary_files import beside, is_temporary
from drillyard.results.copies import place_of


def upload(folder: Path, source: str, to: str, store_url: str) -> int:
    """Copy a file or folder out of the working folder.

    Args:
        folder: The working folder.
        source: Path inside it.
        to: A folder, file or URL; a relative one counts from the folder of the local store.
        store_url: URL of the mailbox's store.

    Returns:
        How many files were copied.

    Raises:
        RunFailed: There is no such file.
    """
    path = folder / source
    if not path.exists():
        raise RunFailed(
            f"upload: {source} is not in the working folder", hint="does `setup` write it?"
        )
    place = place_of(to, store_url)
    target = _local(place)
    if target is not None:
        return _copy_all(path, target, to)
    store, key = _split(place)
    count = 0
    for name, file in _files(path):
        name = path.name if to.endswith("/") and not name else name
        store.upload(f"{key}/{encoded(name)}".strip("/") if name else key, file)
        count += 1
    return count


def download(folder: Path, source: str, to: str, store_url: str) -> int:
    """Copy a file or folder into the working folder.

    Args:
        folder: The working folder.
        source: A folder, file or URL; a relative one counts from the folder of the local store.
        to: Path inside the working folder.
        store_url: URL of the mailbox's store.

    Returns:
        How many files were copied.

    Raises:
        RunFailed: There is no such file.
    """
    place = place_of(source, store_url)
    target = folder / to
    local = _local(place)
    if local is not None:
        if not local.exists():
            raise _missing(source)
        return _copy_all(local, target, to)
    store, key = _split(place)
    if store.stat(key) is not None:
        if to.endswith("/") or target.is_dir():
            target = target / decoded(key.rpartition("/")[2])
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download(key, target)
        return 1
    count = 0
    for info in store.list(f"{key}/"):
        file = (target / decoded(info.key[len(key) + 1 :])).resolve()
        if target.resolve() not in file.parents:
            raise RunFailed(f"download: {info.key} would leave the working folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        store.download(info.key, file)
        count += 1
    if not count:
        raise _missing(source)
    return count


def _missing(source: str) -> RunFailed:
    return RunFailed(f"download: there is no {source}", hint="does `run` write it there?")


def _local(place: str) -> Path | None:
    parts = urlsplit(place)
    if "://" in place and parts.scheme != "file":
        return None
    return Path(parts.path if "://" in place else place).expanduser()


def _split(place: str) -> tuple[Store, str]:
    """The store of a URL's first part, and the key in it."""
    parts = urlsplit(place)
    return open_store(f"{parts.scheme}://{parts.netloc}"), encoded(parts.path.strip("/"))


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """(name below ``path``, file), without links, so that no copy leads elsewhere.

    Files that another run is writing are left out, too.
    """
    if path.is_file():
        yield "", path
    else:
        yield from (each for each in files_below(path) if not is_temporary(each[1]))


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name below a folder, file), sorted; without links and what is deleted meanwhile."""
    # Unlike ``Path.rglob``, ``os.walk`` passes over a folder that disappears.
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    for file in sorted(files):
        if file.is_file() and not file.is_symlink():
            yield file.relative_to(folder).as_posix(), file


def _copy_all(source: Path, target: Path, to: str) -> int:
    """Copies a file or folder to a place that the user wrote as ``to``; returns how many files."""
    if source.is_file() and (to.endswith("/") or target.is_dir()):
        target = target / source.name
    count = 0
    for name, file in _files(source):
        _copy(file, target / name if name else target)
        count += 1
    return count


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all: whoever looks at a share meanwhile sees no half file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = beside(target)
    try:
        shutil.copyfile(source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
