"""The identity of this running system. A process id in a record is valid only there.

A pid names a process within one pid namespace of one boot of one kernel. Containers on the
host's network share a host name and have pid tables of their own, and cloned machines share a
host name too. The boot id is the same in every container of a host, and the inode of the first
pid namespace is the same on every Linux machine, so neither says enough alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = "/proc/self/ns/pid"
_TIMEOUT_S = 5.0


@functools.cache
def boot_id() -> str | None:
    """An id that changes with each boot of this machine; None if the system has none.

    On Linux ``/proc/sys/kernel/random/boot_id`` (random(4)), on macOS ``kern.bootsessionuuid``.
    """
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() or None
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def pid_namespace() -> int | None:
    """The inode of this process's pid namespace (namespaces(7)); 0 on a system without them.

    Returns:
        None if it cannot be read, or if ``/proc`` shows the processes of another namespace.
    """
    if not sys.platform.startswith("linux"):
        return 0
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        return os.stat(_PID_NAMESPACE).st_ino
    except OSError:
        return None


def system_token() -> str | None:
    """Twelve hexadecimal digits, a hash of this host, boot and pid namespace.

    Two processes with the same token can look up each other's pids.

    Returns:
        The token; None if one of the three is unknown.
    """
    boot, namespace = boot_id(), pid_namespace()
    if boot is None or namespace is None:
        return None
    text = f"{platform.node()}\0{boot}\0{namespace}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
