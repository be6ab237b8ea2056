"""The warm pool: a server process that has imported everything, and forks one child a ticket.

The agent itself imports nothing heavy and runs no user code, so that it stays small and alive.
Children are forked by ``multiprocessing``'s fork server; a pipe to each carries requests to stop,
and its end tells the child that the agent died.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from drillyard.mailbox.status import Cause
from drillyard.system.processes import ProcessId, end, in_group, send
from drillyard.worker import execution
from drillyard.worker.execution import Job
from drillyard.worker.preload import VARIABLE

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OUTLIVING_MODULE = "drillyard.worker.outliving"
_PRELOAD_MODULE = "drillyard.worker.preload"


@dataclass
class Slot:
    """A ticket that runs in a child.

    Attributes:
        job: What it was told.
        process: The child.
        pipe: The agent's end of the pipe.
        identity: The child's pid and start time; None when it died before it could be read.
        oom_kills: The kernel's count of memory kills when it started.
        stopping_since: Monotonic seconds of the first request to stop.
        stopped_by: That request.
    """

    job: Job
    process: BaseProcess
    pipe: Connection
    identity: ProcessId | None
    oom_kills: int
    stopping_since: float | None = None
    stopped_by: tuple[Cause, str] | None = None


class Pool:
    """Children of the agent, at most one a slot.

    Args:
        slots: How many at once.
        preload: Modules that the server imports before the first ticket.
        threads: For OMP and MKL, which read it once, when they are loaded.

    Attributes:
        running: What the children work on.
        warm: The server has imported everything: a child starts at once.
    """

    def __init__(self, slots: int, preload: Iterable[str], threads: int) -> None:
        self.slots = slots
        self.running: list[Slot] = []
        self.warm = False
        for name in THREAD_VARIABLES:
            os.environ[name] = str(threads)
        os.environ[VARIABLE] = json.dumps(sorted(set(preload)))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            [_OUTLIVING_MODULE, "drillyard.worker.execution", _PRELOAD_MODULE]
        )

    def warm_up(self, then: Callable[[], None] = lambda: None) -> None:
        """Start the server; its imports go on while the agent installs the user's code.

        Args:
            then: Called, from a thread, when the server has imported everything and can fork.
        """
        forkserver.ensure_running()

        def fork_one() -> None:
            # Starting a child waits until the server has imported everything, deaf to all else.
            try:
                with contextlib.suppress(Exception):  # tickets meet the same, and say it
                    first = self._context.Process(target=_nothing)
                    first.start()
                    first.join()
            finally:
                self.warm = True
                then()

        threading.Thread(target=fork_one, name="warm-up", daemon=True).start()

    @property
    def free(self) -> int:
        """Slots without a child."""
        return self.slots - len(self.running)

    @property
    def free_place(self) -> int:
        """The lowest place that no child has."""
        taken = {slot.job.place for slot in self.running}
        return next(place for place in itertools.count() if place not in taken)

    def start(self, job: Job) -> Slot:
        """Fork a child for a ticket."""
        theirs, ours = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=execution.main, args=(job, theirs), name=job.ticket.ticket
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        identity = ProcessId.of(process.pid) if process.pid else None
        slot = Slot(job, process, ours, identity, oom_kills())
        self.running.append(slot)
        return slot

    def close(self) -> None:
        """End the server, which by itself would first finish what it imports."""
        end([p for c in psutil.Process().children() if (p := ProcessId.of(c.pid))], grace_s=0.0)

    def call(self, function: Callable[[Connection], None], timeout_s: float) -> object:
        """Run a function in a warm child and take what it sends (checks of the machine).

        Raises:
            TimeoutError: It said nothing within the time.
        """
        ours, theirs = self._context.Pipe(duplex=False)
        process: ForkServerProcess = self._context.Process(target=function, args=(theirs,))
        process.start()
        theirs.close()
        try:
            if not ours.poll(timeout_s):
                raise TimeoutError(f"no answer within {timeout_s:.0f} s")
            try:
                return ours.recv()
            except EOFError:
                process.join(1.0)
                return f"the process ended with code {process.exitcode}"
        finally:
            process.kill()
            process.join()
            ours.close()

    def stop(self, slot: Slot, cause: Cause, reason: str) -> None:
        """Ask a child to stop soon; the first request counts."""
        if slot.stopped_by is not None:
            return
        slot.stopped_by = (cause, reason)
        slot.stopping_since = time.monotonic()
        with contextlib.suppress(OSError):
            slot.pipe.send((cause.value, reason))

    def kill(self, slot: Slot) -> None:
        """End a child and all that it started, at once."""
        if slot.identity is not None:
            group = list(in_group(slot.identity.pid)) if slot.identity.alive() else []
            send(slot.identity, signal.SIGKILL)
            end(group, grace_s=0.0)
        slot.process.join(5.0)

    def wait(self, also: Iterable[int], timeout_s: float) -> None:
        """Wait until a child ends, a descriptor can be read, or the time is over."""
        wait([*(s.process.sentinel for s in self.running), *also], timeout_s)

    def reap(self) -> list[tuple[Slot, int | None]]:
        """Children that ended since the last call, with their exit codes."""
        ended = [s for s in self.running if s.process.exitcode is not None]
        self.running = [s for s in self.running if s not in ended]
        found: list[tuple[Slot, int | None]] = []
        for slot in ended:
            code = slot.process.exitcode
            if slot.identity is not None:
                # What the user's code started lives in the child's group and must not outlive it;
                # so does the child itself, when only the server that forked it has died.
                end(in_group(slot.identity.pid), grace_s=0.0)
            slot.process.join()
            slot.process.close()
            slot.pipe.close()
            found.append((slot, code))
        return found


def _nothing() -> None:
    """The first child of a server: that it could be forked says that the server is warm."""


def oom_kills() -> int:
    """How many processes the kernel has ended on this machine for want of memory; 0 unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
