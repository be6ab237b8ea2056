"""Detached programs of this machine, one for each lease on it.

A program starts in its own session and outlives the driver. The provider is the process table:
every process of a lease has the lease's id in its environment. So a lease can be found, listed and
ended even if the file that this module keeps about it is lost, or if the program was killed and
only its children still run.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from drillyard.backend import Lease, Liveness, Order
from drillyard.documents.json_types import as_integer, as_number
from drillyard.errors import CorruptObject, DrillyardError, InfrastructureError, NewerVersion
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.files import locked, write_file
from drillyard.system.operating_system import (
    CONTINUE,
    OWN_SESSION,
    boot_id,
    is_own,
    session_of,
    user_id,
)
from drillyard.system.processes import MARK, ProcessId, end, in_session, marked, send, wait_gone
from drillyard.system.scratch import RUNTIME, temporary_root

_LOG_TAIL = 1 << 20
_LOCK_S = 60.0
_KEEP_LOGS_S = 7 * 86400.0
_started: list[subprocess.Popen[bytes]] = []
"""Programs that this process started. They are kept to be reaped, and are never waited for."""


def default_runtime(kind: str = "") -> Path:
    """Returns this user's folder for a backend's logs and scratch files."""
    suffix = f"-{kind}" if kind else ""
    return temporary_root() / f"drillyard-{user_id()}{suffix}"


class Sessions:
    """The programs of one backend on this machine.

    Args:
        kind: Name of the backend in its leases.
        runtime: Folder for logs and scratch files; also distinguishes the owners of processes.
        command: Function of the order and the lease's folder that returns the command line; may
            write files into the folder.
        stop_grace_s: Seconds between SIGTERM and SIGKILL at the end.
        clock: Clock for the timestamps of leases.
    """

    def __init__(
        self,
        kind: str,
        runtime: Path,
        command: Callable[[Order, Path], list[str]],
        stop_grace_s: float,
        clock: Clock = SYSTEM,
    ) -> None:
        self.kind = kind
        self.runtime = runtime.expanduser().resolve()
        self._command = command
        self._grace_s = stop_grace_s
        self._clock = clock

    def provision(self, order: Order) -> Lease:
        """Starts the program of a lease unless it is alive; returns at once."""
        folder = self.folder(order.lease_id)
        with self._locked(order.lease_id):
            lease = self._living(order.lease_id)
            if lease is not None:
                return lease
            self._forget_old()
            folder.mkdir(mode=0o700, exist_ok=True)
            write_file(folder / "order.json", order.to_bytes())
            agent = self._start(order, folder)
            lease = self._lease(order, agent)
            write_file(folder / "lease.json", lease.to_bytes())
            return lease

    def probe(self, lease: Lease) -> Liveness:
        """Returns ALIVE while the program runs, and UNKNOWN on another machine."""
        _reap()
        if elsewhere(lease):
            return Liveness.UNKNOWN
        return Liveness.GONE if self._living(lease.lease_id) is None else Liveness.ALIVE

    def logs(self, lease: Lease, since: int = 0) -> Iterator[str]:
        """Yields the lines of the program's log, also after the teardown."""
        try:
            data = (self.folder(lease.lease_id) / "agent.log").read_bytes()
        except FileNotFoundError:
            data = _stored_log(lease)
        yield from data.decode("utf-8", errors="replace").splitlines()[since:]

    def teardown(self, lease: Lease) -> None:
        """Ends the program, which stops its tickets, and then every other process of the lease."""
        if elsewhere(lease):
            raise InfrastructureError(
                f"lease {lease.lease_id} is on {lease.provider['host']}, not on this machine",
                hint="run the teardown there",
            )
        with self._locked(lease.lease_id, forget=True):
            agent = self._agent(lease.lease_id)
            if agent is not None and send(agent, signal.SIGTERM):
                send(agent, CONTINUE)
                wait_gone([agent], self._grace_s)
            processes = set(self._processes(lease.lease_id))
            # A stopped agent has already used the grace period; orphans get theirs now.
            end(processes, grace_s=0.0 if agent is not None else self._grace_s)
            _reap()
            folder = self.folder(lease.lease_id)
            if folder.exists():
                _store_log(lease, folder / "agent.log")
                shutil.rmtree(folder, ignore_errors=True)

    def leases(self) -> Iterator[Lease]:
        """Yields the leases of this user on this machine that have a running process."""
        _reap()
        by_lease: dict[str, list[ProcessId]] = defaultdict(list)
        for process, lease_id in self._marked():
            by_lease[lease_id].append(process)
        known = {p.parent.name for p in self.runtime.glob("*/order.json")}
        for lease_id in sorted(known | set(by_lease)):
            recorded = self._recorded(lease_id)
            alive = by_lease.get(lease_id) or (
                list(self._session(recorded)) if recorded is not None else []
            )
            if alive:
                yield recorded or self._lease(self._order(lease_id), min(alive, key=_start))

    # -- state --------------------------------------------------------------------------------

    def folder(self, lease_id: str) -> Path:
        """Returns the folder of a lease's order, log and scratch files."""
        return self.runtime / lease_id

    def _recorded(self, lease_id: str) -> Lease | None:
        try:
            return Lease.from_bytes((self.folder(lease_id) / "lease.json").read_bytes())
        except (FileNotFoundError, CorruptObject, NewerVersion):
            return None

    def _order(self, lease_id: str) -> Order:
        try:
            return Order.from_bytes((self.folder(lease_id) / "order.json").read_bytes())
        except (FileNotFoundError, CorruptObject, NewerVersion):
            # Its processes run and its files are gone: the id is enough for the teardown.
            return Order(lease_id=lease_id, experiment="", store_url="")

    def _lease(self, order: Order, agent: ProcessId) -> Lease:
        return Lease(
            lease_id=order.lease_id,
            backend=self.kind,
            order=order,
            provider={
                "host": platform.node(),
                "pid": agent.pid,
                "started": agent.started,
                "boot_id": boot_id(),
                "log": str(self.folder(order.lease_id) / "agent.log"),
            },
            created_at=self._clock.now(),
        )

    def _living(self, lease_id: str) -> Lease | None:
        """Returns the lease if its agent is alive, by its record or by the process table."""
        recorded = self._recorded(lease_id)
        if recorded is not None and _agent_of(recorded).alive():
            return recorded
        agent = self._agent(lease_id)
        return None if agent is None else self._lease(self._order(lease_id), agent)

    def _agent(self, lease_id: str) -> ProcessId | None:
        recorded = self._recorded(lease_id)
        if recorded is not None and _agent_of(recorded).alive():
            return _agent_of(recorded)
        # Only the agent leads its session: no other process with the mark does so by itself.
        leaders = [p for p, _ in self._marked(lease_id) if session_of(p.pid) == p.pid]
        return min(leaders, key=_start, default=None)

    def _marked(self, lease_id: str | None = None) -> Iterator[tuple[ProcessId, str]]:
        for process in marked(lease_id, **{RUNTIME: str(self.runtime)}):
            with contextlib.suppress(psutil.Error, OSError, KeyError):
                yield process, psutil.Process(process.pid).environ()[MARK]

    def _processes(self, lease_id: str) -> Iterator[ProcessId]:
        yield from (process for process, _ in self._marked(lease_id))
        recorded = self._recorded(lease_id)
        if recorded is not None:
            yield from self._session(recorded)

    @staticmethod
    def _session(lease: Lease) -> Iterator[ProcessId]:
        # After a restart, or on another machine, a session of this number is another one.
        recorded = lease.provider.get("boot_id")
        if recorded is not None and recorded != boot_id():
            return iter(())
        return in_session(_agent_of(lease))

    # -- effects ------------------------------------------------------------------------------

    def _start(self, order: Order, folder: Path) -> ProcessId:
        environment = dict(os.environ)
        environment.update({MARK: order.lease_id, RUNTIME: str(self.runtime)})
        command = self._command(order, folder)
        _reap()
        with open(folder / "agent.log", "ab") as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    **OWN_SESSION,
                    cwd=folder,
                    env=environment,
                )
            except OSError as error:
                raise InfrastructureError(
                    f"cannot start a process for the lease: {error}"
                ) from error
        _started.append(process)
        agent = ProcessId.of(process.pid)
        if agent is None:
            raise InfrastructureError(
                f"the agent exited at once with code {process.wait()}",
                hint=f"see {folder / 'agent.log'}",
            )
        return agent

    def _forget_old(self) -> None:
        """Removes files of killed agents: scratch files now, logs when they are old."""
        oldest = time.time() - _KEEP_LOGS_S
        for path in self.runtime.glob("*/lease.json"):
            lease = self._recorded(path.parent.name)
            if lease is not None and elsewhere(lease):
                continue  # machines share this folder, and its processes cannot be seen from here
            with contextlib.suppress(OSError):
                if (path.parent / "scratch").exists() and not any(
                    True for _ in self._processes(path.parent.name)
                ):
                    shutil.rmtree(path.parent / "scratch", ignore_errors=True)
                if path.stat().st_mtime < oldest and self._living(path.parent.name) is None:
                    shutil.rmtree(path.parent, ignore_errors=True)
                    path.parent.with_suffix(".lock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, lease_id: str, forget: bool = False) -> Iterator[None]:
        """Holds a lease's lock against all other processes; the system frees it if one dies."""
        self.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_own(self.runtime):
            raise InfrastructureError(
                f"{self.runtime} belongs to another user",
                hint=f"set {RUNTIME} to another folder",
            )
        path = self.runtime / f"{lease_id}.lock"
        busy = InfrastructureError(
            f"another process has held {path} for {_LOCK_S:.0f} s",
            hint="end it, then run the same command again",
        )
        with locked(path, _LOCK_S, busy, forget=forget):
            yield


def elsewhere(lease: Lease) -> bool:
    """Whether a lease is on a machine of another name than this one."""
    return lease.provider.get("host", platform.node()) != platform.node()


def _agent_of(lease: Lease) -> ProcessId:
    pid = as_integer(lease.provider["pid"])
    started = as_number(lease.provider["started"])
    if pid is None or started is None:
        raise CorruptObject(f"the record of lease {lease.lease_id} names no process")
    return ProcessId(pid, started)


def _start(process: ProcessId) -> float:
    return process.started


def _reap() -> None:
    """Removes agents that exited from the process table."""
    _started[:] = [process for process in _started if process.poll() is None]


def _log_key(lease: Lease) -> str:
    return f"leases/{lease.lease_id}/agent.log"


def _store_log(lease: Lease, path: Path) -> None:
    """Saves the end of the agent's log in the mailbox, if the store is available."""
    if not lease.order.store_url or not lease.order.experiment:
        return
    with contextlib.suppress(DrillyardError, FileNotFoundError):
        mailbox = Mailbox(open_store(lease.order.store_url), lease.order.experiment)
        data = path.read_bytes()[-_LOG_TAIL:]
        mailbox.store.put(mailbox.key(_log_key(lease)), data)


def _stored_log(lease: Lease) -> bytes:
    if not lease.order.store_url or not lease.order.experiment:
        return b""
    try:
        mailbox = Mailbox(open_store(lease.order.store_url), lease.order.experiment)
        return mailbox.store.get(mailbox.key(_log_key(lease)))
    except (ObjectMissing, DrillyardError):
        return b""
