"""Half-written files beside the final ones; their names identify the writer.

Several machines may share a folder. A pid says nothing about another machine's process, so a name
carries the writer's system too: host, boot and pid namespace, hashed.
"""

from __future__ import annotations

import errno
import re
import secrets
from pathlib import Path

from drillyard.system.machine_identity import system_token
from drillyard.system.operating_system import link
from drillyard.system.processes import ProcessId

PREFIX = ".tmp-"
NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""What file systems without hard links answer to link(2): exFAT and FAT EPERM, those of FUSE
ENOSYS or EOPNOTSUPP, some network disks EMLINK."""
ABANDONED_S = 86_400.0
"""A temporary file without a change for this long is abandoned, on whatever machine."""
_NAME = re.compile(r"\.tmp-(?P<system>[0-9a-f]{12})-(?P<pid>\d+)-(?P<started>[0-9.]+)-[0-9a-f]+\Z")


def beside(target: Path) -> Path:
    """A free name for a file while it is written, in the same folder."""
    me = ProcessId.current()
    # Files of a system without an identity can only be recognized by their age.
    system = system_token() or secrets.token_hex(6)
    name = f"{PREFIX}{system}-{me.pid}-{me.started}-{secrets.token_hex(6)}"
    return target.parent / name


def is_temporary(path: Path) -> bool:
    """Whether a file has a name of ``beside``."""
    return _NAME.match(path.name) is not None


def abandoned(path: Path, now: float) -> bool:
    """Whether a temporary file's writer is known to be dead.

    Args:
        path: The file.
        now: The store's clock.
    """
    match = _NAME.match(path.name)
    if match is not None and match["system"] == system_token():
        return not ProcessId(int(match["pid"]), float(match["started"])).alive()
    try:
        return now - path.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:
        return False


def sweep(folder: Path, now: float) -> int:
    """Remove the temporary files of dead writers below a folder; how many.

    Args:
        folder: Searched at any depth.
        now: The store's clock.
    """
    swept = 0
    for path in folder.rglob(f"{PREFIX}*"):
        if abandoned(path, now):
            path.unlink(missing_ok=True)
            swept += 1
    return swept


def links_refused(folder: Path) -> str | None:
    """Why a folder's file system refuses hard links, as the system says it; None if it does not.

    Args:
        folder: An existing folder. No file remains in it.
    """
    example = beside(folder / "x")
    other = example.with_name(f"{example.name}0")
    try:
        example.touch(exist_ok=False)
        link(example, other)
    except OSError as error:
        # A full or read-only file system is reported elsewhere.
        return (error.strerror or str(error)) if error.errno in NO_LINKS else None
    finally:
        example.unlink(missing_ok=True)
        other.unlink(missing_ok=True)
    return None
