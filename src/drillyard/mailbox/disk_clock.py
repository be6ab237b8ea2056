"""The clock that stamps the files of a folder: on a shared disk, the file server's."""

from __future__ import annotations

import os
import time
from pathlib import Path

from drillyard.mailbox.temporary_files import beside

AGAIN_S = 60.0
"""How long a measured difference is believed."""
_JUMP_S = 1.0
_SAME_S = 0.05
"""The kernel stamps files by a coarse clock; less than this is no difference."""


class DiskClock:
    """Tells the time by which ages of files in a folder are right.

    On a disk of this machine it is this machine's clock. A server of NFS or SMB stamps what is
    written by its own, which may be minutes away. So a file is written and its time looked at,
    once a minute, and at once when this machine's own clock was set.

    Args:
        folder: Where; while it is not there, or cannot be written, this machine's clock counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ahead = 0.0
        self._measured_at: float | None = None
        self._own = 0.0
        """Wall clock minus monotonic clock of this machine at that time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        wall, monotonic = time.time(), time.monotonic()
        if (
            self._measured_at is None
            or monotonic - self._measured_at > AGAIN_S
            or abs(wall - monotonic - self._own) > _JUMP_S
        ) and self._folder.is_dir():
            self._ahead = self._measure()
            self._measured_at, self._own = monotonic, wall - monotonic
        return time.time() + self._ahead

    def _measure(self) -> float:
        """How far the disk's clock is ahead of this machine's, in seconds."""
        path = beside(self._folder / "clock")
        try:
            before = time.time()
            try:
                with open(path, "xb") as file:
                    file.write(b"1")  # a server stamps what it is sent, at the latest on close
                stamped = os.stat(path).st_mtime
            finally:
                path.unlink(missing_ok=True)
            ahead = stamped - (before + time.time()) / 2
        except OSError:
            return 0.0
        return 0.0 if abs(ahead) < _SAME_S else ahead
