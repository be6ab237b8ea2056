"""Runs inside a Dask worker: a proxy that hands tickets to an agent beside the worker.

A run must be killed, timed and given its own threads, and a Dask worker must answer its scheduler
meanwhile. So the worker starts one agent for each lease, the same program as on other backends. A
task only hands it a ticket and waits. When the worker dies, the socket between them closes, and
the agent flushes running tickets. It outlives the worker by seconds, so its folder is beside the
worker's: the next worker that starts deletes the folder of a dead one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict

from drillyard.backend import Order
from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.holders import runs_here
from drillyard.mailbox.records import WorkerRecord
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.files import PRIVATE, write_file
from drillyard.system.operating_system import hold
from drillyard.system.processes import MARK, ProcessId, end, marked, send, wait_gone
from drillyard.worker.push_worker import PLACE
from drillyard_backends.dask.gpus import share

if TYPE_CHECKING:
    from distributed import Worker

EXIT_S = 12.0
"""Seconds that an agent may take to exit: its tickets have eight seconds to flush."""
WAY = "DRILLYARD_DASK_WAY"
"""Environment variable of an agent: the file with the way to the scheduler."""
_LOG_LINES = 2000
log = logging.getLogger(__name__)
_proxies: dict[tuple[str, str], WorkerProxy] = {}
"""(lease, name of the Dask worker) -> its proxy, in the worker's process."""
_closed: set[tuple[str, str]] = set()
"""Proxies that were torn down: a task that arrives late starts nothing."""
_lock = threading.Lock()


class ProxyState(TypedDict):
    """A proxy as its worker reports it."""

    order: JsonObject
    slots: int
    tickets: list[str]
    exit_code: int | None
    """Its agent's; None while it runs."""


class WorkerProxy:
    """The agent of one lease beside one Dask worker.

    Args:
        order: The order of the lease.
        worker: Name of the Dask worker.
        slots: Number of concurrent tickets.
        folder: Dask's scratch folder on this machine; the agent gets a folder in it.
        way: How a training finds the scheduler; for orders with hosts of copies.
        before: The proxy in whose place this one is; its agent has ended.
    """

    def __init__(
        self,
        order: Order,
        worker: str,
        slots: int,
        folder: Path,
        way: JsonObject | None = None,
        before: WorkerProxy | None = None,
    ) -> None:
        self.order = order
        self.slots = slots
        self._place = f"{order.lease_id}/{worker}"
        self._folder = Path(tempfile.mkdtemp(prefix=f"drillyard-{order.lease_id}-", dir=folder))
        self._folders: list[Path] = [*(before._folders if before else []), self._folder]
        self._futures: dict[str, Future[str]] = {}
        self._lock = threading.Lock()
        (self._folder / "order.json").write_bytes(order.to_bytes())
        environment = share(worker)
        if way is not None:
            path = self._folder / "way.json"
            write_file(path, json.dumps({**way, "order": order.model_dump(mode="json")}), PRIVATE)
            environment = {**environment, WAY: str(path)}
        ours, theirs = socket.socketpair()
        self._socket = ours
        command = [
            sys.executable,
            "-m",
            "drillyard.worker",
            "--order-file",
            str(self._folder / "order.json"),
            "--scratch",
            str(self._folder / "scratch"),
            "--slots",
            str(slots),
            "--tickets-fd",
            str(theirs.fileno()),
        ]
        with theirs, locked(self._folder) as lock, open(self.log_path, "ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), lock.fileno()],
                env={**os.environ, **environment, MARK: order.lease_id, PLACE: self._place},
            )
        self._agent = ProcessId.of(self._process.pid)
        threading.Thread(target=self._listen, name=f"proxy-{worker}", daemon=True).start()

    @property
    def log_path(self) -> Path:
        """Path of the agent's log."""
        return self._folder / "agent.log"

    @property
    def alive(self) -> bool:
        """True while the agent runs."""
        return self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """The agent's; None while it runs."""
        return self._process.poll()

    @property
    def tickets(self) -> list[str]:
        """Tickets that the agent received and has not finished."""
        with self._lock:
            return sorted(self._futures)

    def do(self, ticket: str) -> str:
        """Hands a ticket to the agent and waits until the agent has finished with its run.

        Returns:
            The last status of the ticket that the agent saw; empty if the agent died.
        """
        with self._lock:
            future = self._futures.get(ticket)
            if future is None:
                future = self._futures[ticket] = Future()
                try:
                    self._socket.sendall(json.dumps({"ticket": ticket}).encode() + b"\n")
                except OSError:
                    del self._futures[ticket]
                    return ""
        return future.result()

    def end(self, grace_s: float = EXIT_S) -> None:
        """Ends the agent and its processes; takes as long as running tickets need to flush."""
        if self._agent is not None:
            send(self._agent, signal.SIGTERM)
            wait_gone([self._agent], grace_s)
        end(marked(self.order.lease_id, **{PLACE: self._place}), grace_s=0.0)
        self._process.wait()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
            lock_of(folder).unlink(missing_ok=True)

    def _listen(self) -> None:
        try:
            for line in self._socket.makefile("r", encoding="utf-8"):
                message = json.loads(line)
                with self._lock:
                    future = self._futures.pop(str(message["over"]), None)
                if future is not None:
                    future.set_result(str(message["status"]))
        except (OSError, ValueError) as error:
            log.warning("the connection to the agent ended: %s", error)
        with self._lock:
            unfinished, self._futures = list(self._futures.values()), {}
            self._socket.close()
        for future in unfinished:
            future.set_result("")
        self._process.wait()


# -- called through the cluster -------------------------------------------------------------------


def work(order: str, ticket: str) -> str:
    """The task of one ticket.

    Args:
        order: JSON of the order.
        ticket: The ticket to do.

    Returns:
        The ticket's last status here; the mailbox has the result.
    """
    from distributed import get_worker

    proxy = _open(Order.from_bytes(order.encode()), get_worker(), reopen=False)
    return "" if proxy is None else proxy.do(ticket)


async def open_here(
    order: str,
    token: str,
    dask_worker: Worker | None = None,
) -> str:
    """Opens the proxy of a lease on this Dask worker; an open proxy stays.

    Args:
        order: JSON of the order.
        token: Content of the canary in the mailbox. It shows whether the worker sees the same
            store.
        dask_worker: Dask passes the worker.

    Returns:
        Empty, or why this worker cannot work for the lease.
    """
    assert dask_worker is not None
    parsed = Order.from_bytes(order.encode())
    name = str(dask_worker.name)
    # In a thread: the worker's loop must answer its scheduler while a store is slow.
    problem = await asyncio.to_thread(canary, parsed, name, token)
    if not problem:
        await asyncio.to_thread(_open, parsed, dask_worker, reopen=True)
    return problem


async def close_here(lease: str, dask_worker: Worker | None = None) -> None:
    """Ends the proxy of a lease on this Dask worker; already gone is success."""
    assert dask_worker is not None
    key = lease, str(dask_worker.name)
    with _lock:
        _closed.add(key)
        proxy = _proxies.get(key)
    if proxy is not None:
        # It is listed until then: a caller whose connection is lost asks again.
        await asyncio.to_thread(proxy.end)
        with _lock:
            if _proxies.get(key) is proxy:
                del _proxies[key]


def look_here(dask_worker: Worker | None = None) -> list[ProxyState]:
    """Returns the proxies of this Dask worker, also those whose agent has ended."""
    assert dask_worker is not None
    name = str(dask_worker.name)
    with _lock:
        proxies = [proxy for (_, worker), proxy in _proxies.items() if worker == name]
    return [
        {
            "order": p.order.model_dump(mode="json"),
            "slots": p.slots,
            "tickets": p.tickets,
            "exit_code": p.exit_code,
        }
        for p in proxies
    ]


def holds_here(worker: str) -> bool | None:
    """Whether a worker of drillyard is a process beside this Dask worker.

    Args:
        worker: JSON of its record.

    Returns:
        None if the system cannot tell.
    """
    return runs_here(WorkerRecord.model_validate_json(worker))


def log_here(lease: str, dask_worker: Worker | None = None) -> list[str]:
    """Returns the last log lines of a lease's agent on this Dask worker."""
    assert dask_worker is not None
    proxy = _proxies.get((lease, str(dask_worker.name)))
    if proxy is None:
        return []
    text = proxy.log_path.read_text(encoding="utf-8", errors="replace")
    return text.splitlines()[-_LOG_LINES:]


def canary(order: Order, worker: str, token: str) -> str:
    """Checks that this machine reads and writes the same mailbox as the driver.

    Returns:
        Empty, or the problem.
    """
    try:
        mailbox = Mailbox(open_store(order.store_url), order.experiment)
        key = mailbox.key(f"leases/{order.lease_id}/canary-{token}")
        if mailbox.store.get(f"{key}.txt").decode() != token:
            return f"{order.store_url} is another place there"
        mailbox.store.put(f"{key}-{safe(worker)}.txt", token.encode())
    except ObjectMissing:
        return f"{order.store_url} is another place there"
    except DrillyardError as error:
        return f"{order.store_url} cannot be used there: {error}"
    return ""


def lock_of(folder: Path) -> Path:
    """Returns the file whose lock tells Dask that a folder of its scratch space is in use."""
    from distributed.diskutils import DIR_LOCK_EXT

    return folder.with_name(folder.name + DIR_LOCK_EXT)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[IO[bytes]]:
    """Locks a folder for a child process: Dask removes the folder after that process has ended.

    Yields:
        The open file; a process that inherits it holds the lock until it ends.
    """
    path = lock_of(folder)
    hidden = path.with_name(f".{path.name}")
    with open(hidden, "wb") as file:
        hold(file)
        os.replace(hidden, path)  # it is never visible unlocked
        yield file


def safe(worker: str) -> str:
    """Returns a Dask worker's name in a form for keys."""
    return "".join(c if c.isalnum() else "-" for c in worker)[:80]


def way_of(worker: Worker) -> JsonObject:
    """How a process beside this Dask worker reaches the scheduler and the other workers."""
    security = worker.security
    way: JsonObject = {"address": worker.scheduler.address, "worker": worker.address}
    if security is not None and security.tls_ca_file:
        way["security"] = {
            "require_encryption": True,
            "tls_ca_file": security.tls_ca_file,
            "tls_client_cert": security.tls_client_cert or security.tls_worker_cert,
            "tls_client_key": security.tls_client_key or security.tls_worker_key,
        }
    return way


def _open(order: Order, worker: Worker, *, reopen: bool) -> WorkerProxy | None:
    key = order.lease_id, str(worker.name)
    with _lock:
        if reopen:
            _closed.discard(key)
        elif key in _closed:
            return None
        proxy = _proxies.get(key)
        if proxy is None or not proxy.alive:
            proxy = _proxies[key] = WorkerProxy(
                order,
                str(worker.name),
                int(worker.state.nthreads),
                Path(worker.local_directory).parent,
                way_of(worker) if order.hosts else None,
                proxy,
            )
        return proxy
