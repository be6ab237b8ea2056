"""Files and folders that a user names: looked at before the work, and refused in one way."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drillyard.errors import ConfigError, StoreUnavailable

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
"""What another name would mend; a full disk, for one, is no fault of the name."""


def check_file(path: Path, option: str) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Args:
        path: As it was typed.
        option: The option that names it, ``--out``.

    Raises:
        ConfigError: Its folder is not there or may not be written to, or it is a folder itself.
    """
    if path.is_dir():
        raise _refused(path, option, "is a folder")
    _check(path.absolute().parent, path, option)


def check_folder(path: Path, option: str) -> None:
    """The same for a folder, which is made with its parents where it is not there.

    Args:
        path: As it was typed.
        option: The option that names it.

    Raises:
        ConfigError: There is a file of that name or on the way, or it may not be written to.
    """
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    _check(place, path, option)


@contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """What goes wrong while a file or folder is written, as an error that says so.

    Args:
        path: As it was typed.
        option: The option that names it.

    Raises:
        ConfigError: Another name would do.
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
    """Write a file that is there as a whole, or as it was before, whatever happens meanwhile.

    Args:
        path: As it was typed; a file of that name is replaced, and its permissions are kept.
        data: What it is to hold.
        option: The option that names it.

    Raises:
        ConfigError: Another name would do.
        StoreUnavailable: The disk is full or broken.
    """
    check_file(path, option)
    with writing(path, option):
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(scratch).chmod(mode)
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check(folder: Path, path: Path, option: str) -> None:
    if not folder.exists():
        raise _refused(path, option, f"there is no folder {folder}")
    if not folder.is_dir():
        raise _refused(path, option, f"{folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(path, option, f"you may not write to {folder}")


def _refused(path: Path, option: str, why: str) -> ConfigError:
    return ConfigError(
        why,
        field=option,
        value=str(path),
        allowed="a place that can be written to",
        hint="make the folder first, or name another place",
    )
