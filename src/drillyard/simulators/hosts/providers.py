"""Who starts the hosts of a training: a protocol, and hosts on this machine.

A provider is registered under ``drillyard.hosts`` with the name of the backend whose workers it
uses. The core knows the protocol alone.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drillyard.errors import WorkerLost
from drillyard.simulators.hosts.certificates import Invitation, write_secret

STARTS = 5
"""A host that ends so many times before it has joined once is not started again."""
_END_S = 5.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hosting:
    """What a provider needs to know about a training.

    Attributes:
        number: Number of hosts to start.
        experiment: Name of the experiment.
        run: Id of the run.
        store_url: URL of the mailbox's store.
        scratch: A folder of the attempt on the learner's machine.
        settings: The backend's settings in the experiment.
    """

    number: int
    experiment: str
    run: str
    store_url: str
    scratch: Path
    settings: Mapping[str, object]


class HostProvider(Protocol):
    """Starts hosts of copies, watches and replaces them; made with a ``Hosting``.

    Every method is called from the training's process, on the machine of the learner.
    """

    def address(self) -> tuple[str, str]:
        """Where the learner listens, and the address by which hosts reach it."""

    def start(self, invitation: Invitation) -> None:
        """Begins to start the hosts; returns at once. They join by themselves."""

    def tend(self, joined: int) -> None:
        """Replaces hosts that have ended. Called repeatedly while hosts are waited for.

        Args:
            joined: Number of hosts that have joined so far, with those that were lost since.

        Raises:
            WorkerLost: Hosts cannot be started.
        """

    def close(self) -> None:
        """Ends all hosts, also those that have not joined; safe to repeat."""


class LocalHosts:
    """Hosts that are processes of this machine: the provider of the backend ``local``.

    Args:
        hosting: The training.
    """

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self._file = hosting.scratch / "invitation.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def address(self) -> tuple[str, str]:
        """Loopback only: no other machine can reach the learner."""
        return "127.0.0.1", "127.0.0.1"

    def start(self, invitation: Invitation) -> None:
        """Starts the processes."""
        write_secret(self._file, invitation.to_json())
        self._fill()

    def tend(self, joined: int) -> None:
        """Starts as many processes as have ended.

        Raises:
            WorkerLost: They end before they join.
        """
        self._processes = [p for p in self._processes if p.poll() is None]
        if self._started - joined >= self._hosting.number + STARTS:
            raise WorkerLost(
                f"hosts of copies end before they join: {self._started} were started, and "
                f"{joined} joined",
                hint="the log of the run has their last lines",
            )
        self._fill()

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []
        self._file.unlink(missing_ok=True)

    def _fill(self) -> None:
        while len(self._processes) < self._hosting.number:
            self._started += 1
            self._processes.append(start_host(self._file, f"host-{self._started}"))


def start_host(
    invitation: Path, name: str, paths: list[str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a host on this machine, which ends with this process.

    Args:
        invitation: File of the invitation.
        name: Name of the host, for messages.
        paths: Its ``sys.path``; default that of this process, with the user's code.
    """
    paths = paths or [os.path.abspath(path) for path in sys.path]
    module = "drillyard.simulators.hosts"
    return subprocess.Popen(
        [sys.executable, "-m", module, "--invitation", str(invitation), "--name", name],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
