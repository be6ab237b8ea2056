"""The clock that stamps the files of a folder: on a shared disk, the file server's."""

from __future__ import annotations

import os
import time
from pathlib import Path

from drillyard.mailbox.temporary_files import beside

AGAIN_S = 60.0
"""Seconds after which the difference is measured again."""
_JUMP_S = 1.0
_SAME_S = 0.05
"""The kernel stamps files with a coarse clock, so smaller differences are ignored."""


class DiskClock:
    """The clock to compare the times of files in a folder with.

    A local disk uses the clock of this machine. A server of NFS or SMB stamps files with its own
    clock, which may differ by minutes. So the difference is measured with a new file, once a
    minute and whenever the clock of this machine was set.

    Args:
        folder: Folder of the files. If it is missing or read-only, the clock of this machine is
            used.
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
