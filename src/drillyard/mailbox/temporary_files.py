"""Half-written files beside the final ones; their names say who writes them.

Several machines may share a folder. A pid says nothing about another machine's process, so a name
carries the writer's system too: host, boot and pid namespace, hashed.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from pathlib import Path

from drillyard.system.machine_identity import system_token
from drillyard.system.processes import ProcessId

PREFIX = ".tmp-"
NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""What file systems without hard links answer to link(2): exFAT and FAT EPERM, those of FUSE
ENOSYS or EOPNOTSUPP, some network disks EMLINK."""
ABANDONED_S = 86_400.0
"""A temporary file that nobody touched for so long is a dead writer's, on whatever machine."""
_NAME = re.compile(r"\.tmp-(?P<system>[0-9a-f]{12})-(?P<pid>\d+)-(?P<started>[0-9.]+)-[0-9a-f]+\Z")


def beside(target: Path) -> Path:
    """A free name for the half-written form of a file, in the same folder."""
    me = ProcessId.current()
    # Without an identity of its own, a system's files are only ever found by their age.
    system = system_token() or secrets.token_hex(6)
    name = f"{PREFIX}{system}-{me.pid}-{me.started}-{secrets.token_hex(6)}"
    return target.parent / name


def abandoned(path: Path, now: float) -> bool:
    """Whether a temporary file's writer is known to be dead.

    Args:
        path: The file.
        now: The store's clock.
    """
    found = _NAME.match(path.name)
    if found is not None and found["system"] == system_token():
        return not ProcessId(int(found["pid"]), float(found["started"])).alive()
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
    """Try whether a folder's file system makes hard links; in the system's words why not.

    Args:
        folder: There already; nothing is left in it.
    """
    one = beside(folder / "x")
    other = one.with_name(f"{one.name}0")
    try:
        one.touch(exist_ok=False)
        os.link(one, other)
    except OSError as error:
        # One that takes no file at all is full or read-only, which others say better.
        return (error.strerror or str(error)) if error.errno in NO_LINKS else None
    finally:
        one.unlink(missing_ok=True)
        other.unlink(missing_ok=True)
    return None
