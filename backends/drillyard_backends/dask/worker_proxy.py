"""What runs inside a Dask worker: a station that hands tickets to an agent beside it.

A run must be killed, timed and given threads of its own, and a Dask worker must answer its
scheduler meanwhile. So the worker starts one agent a lease, the same program as on every other
backend, and a task does no more than hand it a ticket and wait. When the worker dies, the socket
between them ends, and the agent flushes what runs. It outlives the worker by seconds, so its
folder lies beside the worker's: the next worker that starts deletes that of a dead one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
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
from typing import IO, Any

from drillyard.backend import Order
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.processes import MARK, ProcessId, end, marked, send, wait_gone
from drillyard.worker.push_worker import PLACE

LEAVE_S = 12.0
"""How long an agent may take to leave: its tickets have eight seconds to flush."""
_LOG_LINES = 2000
log = logging.getLogger(__name__)
_stations: dict[tuple[str, str], WorkerProxy] = {}
"""(lease, name of the Dask worker) -> its station, in the worker's process."""
_closed: set[tuple[str, str]] = set()
"""Those that were torn down: a task that comes late starts nothing."""
_lock = threading.Lock()


class WorkerProxy:
    """The agent of one lease beside one Dask worker.

    Args:
        order: What was rented.
        worker: Name of the Dask worker.
        slots: Tickets at once.
        folder: Dask's scratch folder on this machine; one in it becomes the agent's.
        environment: Further variables of the agent, such as the GPUs that it sees.
    """

    def __init__(
        self, order: Order, worker: str, slots: int, folder: Path, environment: dict[str, str]
    ) -> None:
        self.order = order
        self.slots = slots
        self._place = f"{order.lease_id}/{worker}"
        self._folder = Path(tempfile.mkdtemp(prefix=f"drillyard-{order.lease_id}-", dir=folder))
        self._handed: dict[str, Future[str]] = {}
        self._lock = threading.Lock()
        (self._folder / "order.json").write_bytes(order.to_bytes())
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
        threading.Thread(target=self._listen, name=f"station-{worker}", daemon=True).start()

    @property
    def log_path(self) -> Path:
        """What the agent says."""
        return self._folder / "agent.log"

    @property
    def alive(self) -> bool:
        """True while the agent runs."""
        return self._process.poll() is None

    @property
    def tickets(self) -> list[str]:
        """Those that were handed to the agent and are not over."""
        with self._lock:
            return sorted(self._handed)

    def do(self, ticket: str) -> str:
        """Hand a ticket to the agent and wait until nothing more of its run is done here.

        Returns:
            The ticket's status as the agent saw it last; empty when the agent died.
        """
        with self._lock:
            future = self._handed.get(ticket)
            if future is None:
                future = self._handed[ticket] = Future()
                try:
                    self._socket.sendall(json.dumps({"ticket": ticket}).encode() + b"\n")
                except OSError:
                    del self._handed[ticket]
                    return ""
        return future.result()

    def ask_to_leave(self) -> None:
        """Let the agent end; what runs flushes its last checkpoint."""
        if self._agent is not None:
            send(self._agent, signal.SIGTERM)

    def end(self, grace_s: float = LEAVE_S) -> None:
        """End the agent and whatever it started; takes as long as running tickets flush."""
        self.ask_to_leave()
        if self._agent is not None:
            wait_gone([self._agent], grace_s)
        end(marked(self.order.lease_id, **{PLACE: self._place}), grace_s=0.0)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        lock_of(self._folder).unlink(missing_ok=True)

    def _listen(self) -> None:
        try:
            for line in self._socket.makefile("r", encoding="utf-8"):
                words = json.loads(line)
                with self._lock:
                    future = self._handed.pop(str(words["over"]), None)
                if future is not None:
                    future.set_result(str(words["status"]))
        except (OSError, ValueError) as error:
            log.warning("no more words from the agent: %s", error)
        with self._lock:
            left, self._handed = list(self._handed.values()), {}
            self._socket.close()
        for future in left:
            future.set_result("")
        self._process.wait()


# -- called through the cluster -------------------------------------------------------------------


def work(order: str, ticket: str) -> str:
    """The task of one ticket.

    Args:
        order: JSON of the order.
        ticket: What to do.

    Returns:
        The ticket's status when it left here; the mailbox has the result.
    """
    from distributed import get_worker

    wanted = Order.from_bytes(order.encode())
    station = _open(wanted, get_worker(), {}, reopen=False)
    return "" if station is None else station.do(ticket)


async def open_here(
    order: str, environment: dict[str, dict[str, str]], token: str, dask_worker: Any = None
) -> str:
    """Open the station of a lease on this Dask worker; harmless where it is open.

    Args:
        order: JSON of the order.
        environment: Name of a Dask worker -> further variables of its agent.
        token: What the canary in the mailbox says, for workers that see another place under the
            same name.
        dask_worker: Filled in by Dask.

    Returns:
        Empty, or why this worker cannot work for the lease.
    """
    wanted = Order.from_bytes(order.encode())
    name = str(dask_worker.name)
    # A thread: the worker's loop must go on answering its scheduler while a store is slow.
    trouble = await asyncio.to_thread(canary, wanted, name, token)
    if not trouble:
        own = environment.get(name, {})
        await asyncio.to_thread(_open, wanted, dask_worker, own, reopen=True)
    return trouble


async def close_here(lease: str, dask_worker: Any = None) -> None:
    """End the station of a lease on this Dask worker; already gone is success."""
    key = lease, str(dask_worker.name)
    with _lock:
        _closed.add(key)
        station = _stations.pop(key, None)
    if station is not None:
        await asyncio.to_thread(station.end)


def look_here(dask_worker: Any = None) -> list[dict[str, Any]]:
    """The stations of this Dask worker whose agents live."""
    name = str(dask_worker.name)
    with _lock:
        mine = [station for (_, worker), station in _stations.items() if worker == name]
    return [
        {"order": s.order.model_dump(mode="json"), "slots": s.slots, "tickets": s.tickets}
        for s in mine
        if s.alive
    ]


def log_here(lease: str, dask_worker: Any = None) -> list[str]:
    """The last lines that the agent of a lease said on this Dask worker."""
    station = _stations.get((lease, str(dask_worker.name)))
    if station is None:
        return []
    text = station.log_path.read_text(encoding="utf-8", errors="replace")
    return text.splitlines()[-_LOG_LINES:]


def canary(order: Order, worker: str, token: str) -> str:
    """See whether this machine reads and writes the very mailbox of the driver.

    Returns:
        Empty, or what is wrong.
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
    """The file whose lock tells Dask that somebody works in a folder of its scratch space."""
    from distributed.diskutils import DIR_LOCK_EXT

    return folder.with_name(folder.name + DIR_LOCK_EXT)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[IO[bytes]]:
    """A lock for a process to inherit: Dask removes the folder when that one is gone.

    Yields:
        The open file; whoever inherits it holds the lock as long as he lives.
    """
    path = lock_of(folder)
    hidden = path.with_name(f".{path.name}")
    with open(hidden, "wb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        os.replace(hidden, path)  # nobody sees it unlocked
        yield file


def safe(worker: str) -> str:
    """A Dask worker's name as part of a key."""
    return "".join(c if c.isalnum() else "-" for c in worker)[:80]


def _open(
    order: Order, worker: Any, environment: dict[str, str], *, reopen: bool
) -> WorkerProxy | None:
    key = order.lease_id, str(worker.name)
    with _lock:
        if reopen:
            _closed.discard(key)
        elif key in _closed:
            return None
        station = _stations.get(key)
        if station is None or not station.alive:
            station = _stations[key] = WorkerProxy(
                order,
                str(worker.name),
                int(worker.state.nthreads),
                Path(worker.local_directory).parent,
                environment,
            )
        return station
