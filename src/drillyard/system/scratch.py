"""Temporary folders with the owner in their name: each process removes those of killed ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import current_process
from pathlib import Path

from drillyard.errors import InfrastructureError
from drillyard.system.machine_identity import system_token
from drillyard.system.operating_system import is_own, user_id
from drillyard.system.processes import ProcessId

RUNTIME = "DRILLYARD_LOCAL_RUNTIME"
_SOCKET_ROOM = 36
"""Characters that multiprocessing adds to the temporary folder for its socket."""
_SOCKET_LIMIT = 104
"""Longest path of a socket, on the strictest system."""
_OWNER = ".system"
"""A file with the system on which the pid in the folder's name is valid. It is not part of the
name, which must be short."""
_ABANDONED_S = 86_400.0
_SHORT = Path(f"/tmp/dy-{user_id()}")
"""For folders with short names, because sockets are created in them."""


def temporary_root() -> Path:
    """The system's temporary folder, whether or not it has space.

    ``tempfile`` tries each candidate by a write. So a full disk would give another folder, in
    which processes that run are not found.
    """
    for name in ("TMPDIR", "TEMP", "TMP"):
        named = os.environ.get(name)
        if named and Path(named).is_dir() and os.access(named, os.W_OK | os.X_OK):
            return Path(named).absolute()
    return Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())


def runtime() -> Path:
    """This user's folder for logs and scratch files of processes on this machine."""
    default = temporary_root() / f"drillyard-{user_id()}"
    return Path(os.environ.get(RUNTIME) or default).expanduser().resolve()


@contextlib.contextmanager
def own_folder(kind: str, root: Path | None = None) -> Iterator[Path]:
    """A temporary folder of this process, deleted afterwards.

    Folders of the same kind whose process has ended are deleted first.

    Args:
        kind: First part of its name.
        root: Its parent; default ``runtime()``.

    Raises:
        InfrastructureError: The parent belongs to another user.
    """
    root, me = root or runtime(), ProcessId.current()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_own(root):
        raise InfrastructureError(
            f"{root} belongs to another user", hint=f"set {RUNTIME} to a folder of your own"
        )
    for path in root.glob(f"{kind}-*"):
        if _abandoned(path, kind):
            shutil.rmtree(path, ignore_errors=True)
    folder = root / f"{kind}-{me.pid}-{me.started}"
    folder.mkdir(mode=0o700)
    try:
        (folder / _OWNER).write_text(system_token() or "", encoding="ascii")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path, kind: str) -> bool:
    """Whether the process in a folder's name is known to be dead.

    Containers may share the root, and a pid of one is not a process of the other.
    """
    _, _, name = folder.name.rpartition(f"{kind}-")
    pid, _, started = name.partition("-")
    try:
        process = ProcessId(int(pid), float(started))
        owner = (folder / _OWNER).read_text(encoding="ascii")
        if owner and owner == system_token():
            return not process.alive()
    except FileNotFoundError:
        pass  # of an earlier version, or created a moment ago
    except (ValueError, OSError):
        return False
    try:
        return time.time() - folder.stat().st_mtime > _ABANDONED_S
    except OSError:
        return False


def short_folder(kind: str) -> contextlib.AbstractContextManager[Path]:
    """``own_folder`` with a path that is short enough for sockets, whatever TMPDIR is.

    Args:
        kind: First part of its name.
    """
    return own_folder(kind, _SHORT)


def workplace(scratch: Path, code: Path | None) -> Path:
    """The working folder of an attempt's user code: a copy of the user's folder, made once.

    Runs at the same time import modules from the same folder. A file that one of them writes by a
    relative name must not belong to another one.

    Args:
        scratch: Local folder of the attempt.
        code: The user's folder as unpacked; None if the experiment has no code.
    """
    folder = scratch / "work"
    if not folder.is_dir():
        if code is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(code, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@contextlib.contextmanager
def temporary_below(folder: Path) -> Iterator[None]:
    """Let this process and those it starts create their temporary files below a folder.

    So these are deleted with the folder, also after ``kill -9``. If the path is too long for the
    sockets of ``multiprocessing``, they go into a separate folder under ``/tmp``, which is deleted
    at the end, or by the next process that needs one.

    Args:
        folder: An existing folder of this process.

    Raises:
        InfrastructureError: No such folder can be created.
    """
    place = folder / "tmp"
    with contextlib.ExitStack() as stack:
        if len(os.fsencode(place)) + _SOCKET_ROOM > _SOCKET_LIMIT:
            try:
                place = stack.enter_context(short_folder("tmp"))
            except OSError as error:
                raise InfrastructureError(
                    f"{place} is too long for sockets, and {_SHORT} cannot be used: {error}",
                    hint="set TMPDIR to a folder with a short name",
                ) from error
        else:
            place.mkdir(mode=0o700, exist_ok=True)
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(place)
        tempfile.tempdir = None  # so that it is looked up again
        # multiprocessing would delete its own folder when the interpreter ends, and report that it
        # is missing.
        settings: dict[str, str | None] = current_process()._config  # type: ignore[attr-defined]
        sockets = settings.get("tempdir")
        settings["tempdir"] = tempfile.mkdtemp(prefix="pymp-")
        try:
            yield
        finally:
            settings["tempdir"] = sockets
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
            tempfile.tempdir = None
