"""The real machine: a server process that has imported everything forks a child for each ticket.

The worker itself imports no large library and runs no user code, so that it stays small and
robust. ``multiprocessing``'s fork server forks the children. A pipe to each child carries stop
requests, and its end shows the child that the worker has died.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from drillyard.backend import Order
from drillyard.errors import UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.status import Cause
from drillyard.runs.code_archive import install
from drillyard.system import step_marker
from drillyard.system.operating_system import KILL, oom_kills
from drillyard.system.processes import ProcessId, end, in_group, send
from drillyard.system.utilisation import Monitor, Sampler
from drillyard.worker import execution, gpu, machine_share, together
from drillyard.worker.machine import Exit, Job
from drillyard.worker.preload import VARIABLE

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GPU_LOOK_S = 300.0
_SIGNALS_MODULE = "drillyard.worker.pool_server_signals"
_PRELOAD_MODULE = "drillyard.worker.preload"


class ForkedTicket:
    """A child that does one ticket.

    Args:
        job: Its job.
        process: The child.
        pipe: The worker's end of the pipe to it.
    """

    def __init__(self, job: Job, process: BaseProcess, pipe: Connection) -> None:
        self._job = job
        self._process = process
        self._pipe = pipe
        self._identity = ProcessId.of(process.pid) if process.pid else None
        self._oom_kills = oom_kills()
        self._lock = threading.Lock()
        self._exit: Exit | None = None
        self.sentinel = process.sentinel

    @property
    def job(self) -> Job:
        """Its job."""
        return self._job

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._identity is not None and self._identity.alive()

    def poll(self) -> Exit | None:
        """How it ended; None while it runs."""
        with self._lock:
            if self._exit is None and (code := self._process.exitcode) is not None:
                if self._identity is not None:
                    # What the user's code started lives in the child's group and must not outlive
                    # it; so does the child itself, when only the server that forked it has died.
                    end(in_group(self._identity.pid), grace_s=0.0)
                self._process.join()
                self._process.close()
                self._pipe.close()
                starved = oom_kills() > self._oom_kills
                self._exit = Exit(code, starved, step_marker.inside(self._job.scratch))
            return self._exit

    def ask_to_stop(self, cause: Cause, reason: str) -> None:
        """Ask it to stop soon."""
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send((cause.value, reason))

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self._identity is not None:
            group = list(in_group(self._identity.pid)) if self._identity.alive() else []
            send(self._identity, KILL)
            end(group, grace_s=0.0)


class Pool:
    """This machine, with a warm server process.

    Args:
        slots: Tickets at once.
        order: What was rented: modules to import before the first ticket, threads of each.
        scratch: Local folder for the user's code.
    """

    def __init__(self, slots: int, order: Order, scratch: Path) -> None:
        self.slots = slots
        rented = None if order.gpus else ()
        self.usage: Monitor | None = Monitor(Sampler(scratch).sample, time.time, rented)
        self._scratch = scratch
        self._warm = False
        self._prepared: tuple[Path, ...] | None = None
        self._failure: Exception | None = None
        self._tickets: list[ForkedTicket] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        for name in THREAD_VARIABLES:  # read once, when the libraries are loaded
            os.environ[name] = str(order.threads)
        os.environ[VARIABLE] = json.dumps(sorted(set(order.preload)))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            [_SIGNALS_MODULE, "drillyard.worker.execution", _PRELOAD_MODULE]
        )

    # -- set-up -------------------------------------------------------------------------------

    def prepare(self, mailbox: Mailbox, order: Order) -> None:
        """Start to install the user's code, in parallel to the imports of the server."""
        self._failure = None
        forkserver.ensure_running()
        for work in (self._fork_one, lambda: self._install(mailbox, order)):
            threading.Thread(target=work, name="set-up", daemon=True).start()

    def prepared(self) -> tuple[Path, ...] | None:
        """Folders for the front of ``sys.path``; None while the installation runs."""
        if self._failure is not None:
            raise self._failure
        return self._prepared

    @property
    def warm(self) -> bool:
        """True once the server has imported everything, so that a child starts at once."""
        return self._warm

    def _fork_one(self) -> None:
        # Starting a child blocks until the server has imported everything.
        try:
            with contextlib.suppress(Exception):  # tickets fail in the same way, and report it
                first = self._context.Process(target=_nothing)
                first.start()
                first.join()
        finally:
            self._warm = True
            self.wake()

    def _install(self, mailbox: Mailbox, order: Order) -> None:
        try:
            gpu.compare(order)
            folder = self._scratch / "code"
            needs = (order.code, order.requirements, folder, order.lease_id)
            paths = tuple(install(mailbox, *needs))
            if order.gpus:
                self._look_at_gpus(order.gpus)
            sweep = getattr(mailbox.store, "sweep", None)
            if sweep is not None:
                sweep(order.experiment)
            self._prepared = paths
        except Exception as error:
            self._failure = error
        finally:
            self.wake()

    def _look_at_gpus(self, wanted: int) -> None:
        trouble = self.call(gpu.look, GPU_LOOK_S)
        if trouble is not None:
            raise UserError(gpu.refusal(wanted, str(trouble)), hint=gpu.HINT)

    def call(self, function: Callable[[Connection], None], timeout_s: float) -> object:
        """Run a function in a warm child and return what it sends (checks of the machine).

        Raises:
            TimeoutError: It sent nothing within the time.
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

    # -- tickets ------------------------------------------------------------------------------

    def gpus(self) -> Sequence[str]:
        """Names of the GPUs that tickets may use."""
        return machine_share.visible_gpus()

    def start(self, job: Job) -> ForkedTicket:
        """Fork a child for a ticket."""
        theirs, ours = self._context.Pipe(duplex=False)
        work = execution.execute if job.together == 1 else together.execute_together
        process = self._context.Process(
            target=execution.main, args=(job, theirs, work), name=job.ticket.ticket
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ticket = ForkedTicket(job, process, ours)
        self._tickets.append(ticket)
        return ticket

    def remove(self, job: Job) -> None:
        """Delete the local folder of an attempt that has ended."""
        shutil.rmtree(job.scratch, ignore_errors=True)

    # -- the loop's end -----------------------------------------------------------------------

    def wake(self) -> None:
        """End the present wait, or the next one."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    def wait(self, timeout_s: float) -> None:
        """Wait until a child ends, ``wake`` is called, or the time is over."""
        before = len(self._tickets)
        self._tickets = [ticket for ticket in self._tickets if ticket.poll() is None]
        if len(self._tickets) == before:
            wait([*(ticket.sentinel for ticket in self._tickets), self._wake_read], timeout_s)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def close(self) -> None:
        """End the server, which otherwise would finish its imports first."""
        end([p for c in psutil.Process().children() if (p := ProcessId.of(c.pid))], grace_s=0.0)


def _nothing() -> None:
    """The first child of a server. Once it was forked, the server is warm."""
