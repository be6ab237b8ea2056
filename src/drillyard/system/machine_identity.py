"""The identity of this running system. A process id in a record is valid only there.

A pid names a process within one pid namespace of one boot of one kernel. Containers on the
host's network share a host name and have pid tables of their own, and cloned machines share a
host name too. The boot id is the same in every container of a host, and the inode of the first
pid namespace is the same on every Linux machine, so neither says enough alone.
"""

from __future__ import annotations

import hashlib
import platform

from drillyard.system.operating_system import boot_id, pid_namespace


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
