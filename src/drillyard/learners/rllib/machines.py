"""The other machines of a training: how it learns of them, and what each of them does.

A backend whose job has several machines runs the training on the first one, with
``HEAD`` and ``MACHINES`` set; each training starts its own Ray there. Every other machine keeps a
``RayNode``, which joins when a training listens, and ends with it. Nothing here imports Ray: it
may be one of the run's requirements, which are not among the agent's packages.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from drillyard.system.processes import end, in_group
from drillyard.system.scratch import short_folder

HEAD, MACHINES = "DRILLYARD_RAY_HEAD", "DRILLYARD_RAY_MACHINES"
"""Environment variables of a run: ``address:port`` that its Ray listens at; how many join it."""
OBJECTS_BYTES = 256 * 2**20
"""Shared memory that Ray sets aside on a machine for samples on their way to the learner."""
_AGAIN_S = 5.0
"""Seconds to wait before a node is started again."""
_REACH_S = 2.0
_MAIN = """
import sys
from drillyard.system.operating_system import end_with_parent
end_with_parent()
from ray.scripts.scripts import main
main()
"""
"""Ray's command line, which ends with the agent, also after ``kill -9``."""


class RayNode:
    """Ray's processes on a machine other than the first.

    Args:
        head: ``address:port`` where the run's Ray listens while it trains.
        paths: For the front of ``sys.path`` of the workers: the user's code and packages.
    """

    def __init__(self, head: str, paths: Sequence[Path]) -> None:
        self._head, self._paths = head, paths
        self._process: subprocess.Popen[bytes] | None = None
        self._again = 0.0
        self._stack = ExitStack()

    def keep(self) -> None:
        """Join the training that listens, unless it is already joined. Call it repeatedly."""
        if self._process is not None and self._process.poll() is None:
            return
        if time.monotonic() < self._again:
            return
        address = _reached_from(self._head)
        if address is not None:
            self.close()
            self._again = time.monotonic() + _AGAIN_S
            folder = self._stack.enter_context(short_folder("ray"))
            self._process = self._start(address, folder)

    def close(self) -> None:
        """End Ray and all processes that it started."""
        if self._process is not None:
            # Kill it: a graceful end would first wait for the workers.
            end(in_group(self._process.pid), grace_s=0.0)
            self._process.wait()
        self._process = None
        self._stack.close()

    def _start(self, address: str, folder: Path) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([*map(str, self._paths), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                _MAIN,
                "start",
                "--block",
                f"--address={self._head}",
                f"--node-ip-address={address}",
                "--num-cpus=1",
                "--disable-usage-stats",
                f"--object-store-memory={OBJECTS_BYTES}",
                f"--temp-dir={folder}",
            ],
            env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
            stdin=subprocess.DEVNULL,
            process_group=0,
        )


def _reached_from(head: str) -> str | None:
    """This machine's address in the network of the first one; None while nothing listens there."""
    host, _, port = head.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_REACH_S) as line:
            return str(line.getsockname()[0])
    except OSError:
        return None
