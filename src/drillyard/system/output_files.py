"""Output files and folders that a user names: checked before the work, and written safely."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from drillyard.errors import ConfigError, StoreUnavailable
from drillyard.system.files import PRIVATE, replacing

_NAMED = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EROFS,
}
"""Errors that another name would fix; a full disk, for example, is not one of them."""


def check_file(path: Path, option: str) -> None:
    """Refuse a file that could not be written, before the work whose result it will contain.

    Args:
        path: As the user typed it.
        option: The option that names it, ``--out``.

    Raises:
        ConfigError: Its folder is missing or not writable, or it is a folder itself.
    """
    if path.is_dir():
        raise _refused(path, option, "is a folder")
    _check(path.absolute().parent, path, option)


def check_folder(path: Path, option: str) -> None:
    """Refuse a folder that could not be written. A missing folder will be created later.

    Args:
        path: As the user typed it.
        option: The option that names it.

    Raises:
        ConfigError: It or one of its parents is a file, or it is not writable.
    """
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    _check(place, path, option)


@contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Turn errors of writing a file or folder into errors for the user.

    Args:
        path: As the user typed it.
        option: The option that names it.

    Raises:
        ConfigError: Another name would help.
        StoreUnavailable: The disk is full or broken.
    """
    try:
        yield
    except OSError as error:
        why = f"cannot be written: {error.strerror or error}"
        if error.errno in _NAMED:
            raise _refused(path, option, why) from error
        raise StoreUnavailable(f"{path} {why}", hint=f"name another disk with {option}") from error


def write_whole(path: Path, data: bytes, option: str) -> None:
    """Write a file atomically: after a crash it is complete, or as it was before.

    Args:
        path: As the user typed it; an existing file is replaced and keeps its permissions.
        data: Its content.
        option: The option that names it.

    Raises:
        ConfigError: Another name would help.
        StoreUnavailable: The disk is full or broken.
    """
    check_file(path, option)
    with writing(path, option):
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        with replacing(path) as beside:
            # Meanwhile the new file is as private as the old one was, or more.
            beside.touch(0o666 if mode is None else PRIVATE)
            beside.write_bytes(data)
            if mode is not None:
                beside.chmod(mode)


def write_folder(folder: Path, files: Mapping[str, bytes], option: str) -> None:
    """Write files into a folder, over older ones.

    Args:
        folder: The folder, which is made.
        files: Name -> content. ``index.html`` is written last: it links to the others.
        option: The option that names the folder.

    Raises:
        ConfigError: Another name would help.
        StoreUnavailable: The disk is full or broken.
    """
    with writing(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        for name in page_last(files):
            (folder / name).write_bytes(files[name])


def page_last(names: Iterable[str]) -> list[str]:
    """Names of files in the order in which they are written: who finds a page finds the rest."""
    return sorted(names, key=lambda name: name == "index.html")


def _check(folder: Path, path: Path, option: str) -> None:
    if not folder.exists():
        raise _refused(path, option, f"there is no folder {folder}")
    if not folder.is_dir():
        raise _refused(path, option, f"{folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(path, option, f"you may not write to {folder}")


def _refused(path: Path, option: str, why: str) -> ConfigError:
    return ConfigError(
        why,
        field=option,
        value=str(path),
        allowed="a place that can be written to",
        hint="create the folder first, or name another place",
    )
