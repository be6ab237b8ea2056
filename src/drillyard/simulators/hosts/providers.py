"""Who starts the hosts of a training: a protocol, and hosts on this machine.

A provider is registered under ``drillyard.hosts`` with the name of the backend whose workers it
uses. The core knows the protocol alone.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drillyard.errors import ConfigError, WorkerLost
from drillyard.simulators.hosts.certificates import Identity, Invitation
from drillyard.system.files import PRIVATE, write_file

STARTS = 5
"""A host that ends so many times before it has joined once is not started again."""
PATIENCE_S = 60.0
"""How long a host of these looks for its learner, which listens before its hosts are started."""
LISTENING = "DRILLYARD_HOSTS"
"""Environment variable of the learner's machine: the file that ``--invite`` wrote for it."""
EVERYWHERE = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
"""Where a learner listens for hosts on other machines: every interface, IPv4 and IPv6."""
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
        attempt: Number of the attempt.
    """

    number: int
    experiment: str
    run: str
    store_url: str
    scratch: Path
    settings: Mapping[str, object]
    attempt: int = 1


class HostProvider(Protocol):
    """Starts hosts of copies, watches and replaces them; made with a ``Hosting``.

    Every method is called from the training's process, on the machine of the learner.
    """

    def identity(self) -> Identity | None:
        """The learner's certificate and token; None: made for this training."""

    def address(self) -> tuple[str, int, str]:
        """Where the learner listens (port 0: a free one), and by what name hosts reach it."""

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

    def identity(self) -> None:
        """Made for this training."""

    def address(self) -> tuple[str, int, str]:
        """Loopback only: no other machine can reach the learner."""
        return "127.0.0.1", 0, "127.0.0.1"

    def start(self, invitation: Invitation) -> None:
        """Starts the processes."""
        write_file(self._file, invitation.to_json(), PRIVATE)
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
    invitation: Path,
    name: str,
    *,
    first: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a host on this machine, which ends with this process.

    Args:
        invitation: File of the invitation.
        name: Name of the host, for messages.
        first: Folders for the front of its ``sys.path``, before those of this process.
        environment: More variables.
        quiet: Throw away what it and its simulators print.
    """
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [*map(str, first), *filter(None, before), *map(os.path.abspath, sys.path)]
    path = os.pathsep.join(dict.fromkeys(folders))
    module = "drillyard.simulators.hosts"
    return subprocess.Popen(
        [sys.executable, "-m", module, "--invitation", str(invitation), "--name", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.DEVNULL if quiet else None,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
    )


class JoinedHosts:
    """Hosts that someone else started: the provider ``joined``.

    Args:
        hosting: The training.

    Raises:
        ConfigError: This machine has no identity to listen with.
    """

    def __init__(self, hosting: Hosting) -> None:
        del hosting  # it starts none
        self._identity, self._invitation = read_listening()

    def identity(self) -> Identity:
        """What the hosts were given earlier."""
        return self._identity

    def address(self) -> tuple[str, int, str]:
        """Every interface: the token and the certificate decide who may join."""
        host, port = self._invitation.place
        return EVERYWHERE, port, host

    def start(self, invitation: Invitation) -> None:
        """Nothing: they join by themselves."""

    def tend(self, joined: int) -> None:
        """Nothing: whoever started them starts them again."""

    def close(self) -> None:
        """Nothing: they wait for the next training."""


def read_listening() -> tuple[Identity, Invitation]:
    """The identity of this machine for hosts that others start, and what they were given.

    Raises:
        ConfigError: The variable is not set, or its file is not an identity.
        NotFound: There is no such file.
    """
    path = os.environ.get(LISTENING)
    if not path:
        raise ConfigError(
            f"waits for hosts that join, and {LISTENING} does not say how they can",
            field="simulator.copies_on",
            value="hosts",
            allowed=f"with {LISTENING}=FILE in the environment",
            hint="make the file: drillyard simulator-host --invite HOST:PORT, with the address "
            "of this machine",
        )
    return Identity.read(Path(path)), Invitation.read(Path(path))
