"""Hosts of copies on a Dask cluster: places them on its workers, watches and replaces them.

A host is a task that runs on one Dask worker until its learner sends it away. The learner's own
worker gets none while there are others. Only these tasks go through Dask; steps go from the
learner to the hosts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drillyard.backend import Order
from drillyard.errors import Bug, InfrastructureError, WorkerLost
from drillyard.mailbox import Mailbox, open_store
from drillyard.runs.code_archive import install
from drillyard.simulators.hosts.certificates import Invitation
from drillyard.simulators.hosts.providers import STARTS, Hosting, start_host
from drillyard.system.files import PRIVATE, write_file
from drillyard.system.processes import MARK
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.worker_proxy import WAY

if TYPE_CHECKING:
    from distributed import Future

CONNECT_S = 30.0
_END_S = 5.0
log = logging.getLogger(__name__)


class DaskHosts:
    """The hosts of one training: the provider of the backend ``dask``.

    Args:
        hosting: The training.
    """

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        path = os.environ.get(WAY)
        if path is None:
            raise Bug(f"the agent of a Dask worker did not set {WAY}")
        way = json.loads(Path(path).read_text(encoding="utf-8"))
        self._own = str(way["worker"])
        self._order = json.dumps(way["order"])
        # Runs have equal names in all experiments of a cluster, and processes in all containers.
        self._keys = f"drillyard-{hosting.run}-{way['order']['lease_id']}-{secrets.token_hex(4)}"
        self._scheduler = SchedulerAddress(way["address"], way.get("security", {}), CONNECT_S)
        self._invitation: Invitation | None = None
        self._placed: list[tuple[str, Future[int]]] = []
        self._started = 0

    def identity(self) -> None:
        """Made for this training."""

    def address(self) -> tuple[str, int, str]:
        """The address by which the other workers reach the learner's one."""
        host = urlsplit(self._own).hostname or "127.0.0.1"
        return host, 0, host

    def start(self, invitation: Invitation) -> None:
        """Places the hosts on the workers that are there."""
        self._invitation = invitation
        self.tend(0)

    def tend(self, joined: int) -> None:
        """Places hosts for those that have ended, and for those whose worker is gone.

        Raises:
            WorkerLost: They end before they join.
        """
        try:
            workers = sorted(self._scheduler.workers())
            for place in list(self._placed):
                if place[1].done() or place[0] not in workers:
                    self._placed.remove(place)
                    place[1].release()
            if self._started - joined >= self._hosting.number + STARTS:
                raise WorkerLost(
                    f"hosts of copies end before they join: {self._started} were started, and "
                    f"{joined} joined",
                    hint="`drillyard logs` shows the log of the Dask workers",
                )
            others = [address for address in workers if address != self._own] or workers
            while others and len(self._placed) < self._hosting.number:
                self._place(others)
        except WorkerLost:
            raise
        except InfrastructureError as error:
            log.warning("%s", error)  # the next call tries again

    def close(self) -> None:
        """Ends the tasks; the hosts end when their learner says goodbye."""
        with contextlib.suppress(InfrastructureError), self._scheduler.seam():
            for _, future in self._placed:
                future.cancel()
        self._placed = []
        self._scheduler.forget()

    def _place(self, workers: list[str]) -> None:
        """Submits one host to the worker that has the fewest."""
        assert self._invitation is not None
        taken = Counter(address for address, _ in self._placed)
        address = min(workers, key=lambda worker: taken[worker])
        self._started += 1
        name = f"host-{self._started}"
        client = self._scheduler.client()
        with self._scheduler.seam():
            future = client.submit(
                host_here,
                self._order,
                self._invitation.to_json(),
                name,
                key=f"{self._keys}-{name}",
                workers=[address],
                retries=0,
                pure=False,
            )
        self._placed.append((address, future))
        log.info("%s of %s is placed on %s", name, self._hosting.run, address)


def host_here(order: str, invitation: str, name: str) -> int:
    """The task of one host, on a Dask worker: runs it to its end.

    Args:
        order: JSON of the lease's order.
        invitation: JSON of the invitation.
        name: Name of the host.

    Returns:
        The exit code of the host.
    """
    parsed = Order.from_bytes(order.encode())
    mailbox = Mailbox(open_store(parsed.store_url), parsed.experiment)
    with tempfile.TemporaryDirectory(prefix=f"drillyard-{parsed.lease_id}-") as folder:
        paths = install(
            mailbox, parsed.code, parsed.requirements, Path(folder) / "code", parsed.lease_id
        )
        file = Path(folder) / "invitation.json"
        write_file(file, invitation, PRIVATE)
        process = start_host(file, name, first=paths, environment={MARK: parsed.lease_id})
        try:
            return process.wait()
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
            process.kill()
