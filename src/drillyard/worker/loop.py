"""The edge of a worker: its threads, signals and waiting. What is decided is in the steps.

The steps run in a thread, and the main thread watches over the end: a store can hold a step up for
minutes, or for ever, and a machine that is taken away has seconds.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from drillyard.backend import Order
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import Loop
from drillyard.system.scratch import temporary_below
from drillyard.worker.signals import listen_in_worker
from drillyard.worker.worker import Worker

LAST_STEP_S = 1.0
"""How long a step that hangs in the store is waited for once everything has ended."""
ABANDON_S = 2.0
"""How long an interpreter may take to end while one of its threads hangs in a store."""
log = logging.getLogger(__name__)


class _Work(threading.Thread):
    """Calls a worker's step until it has ended, or its step raises."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="work", daemon=True)
        self._worker = worker
        self.error: BaseException | None = None

    def run(self) -> None:
        """Step, and wait for the time or for something to happen on the machine."""
        worker = self._worker
        try:
            while (wait_s := worker.step(worker.clock.monotonic())) is not None:
                worker.machine.wait(wait_s)
        except BaseException as error:
            self.error = error


def run(worker: Worker) -> int:
    """Be a worker until there is nothing left to do. Called in the main thread.

    After SIGTERM this returns within ``term_grace_s`` and some ten seconds, also while the store
    never answers.

    Returns:
        Exit code: 0 done, 2 the user's code or requirements cannot be installed, 4 machinery.
    """
    listen_in_worker(worker)
    beat = Loop("beat", worker.heart.step, worker.clock)
    work = _Work(worker)
    beat.start()
    work.start()
    try:
        while work.is_alive() and (wait_s := worker.hurry(worker.clock.monotonic())) is not None:
            work.join(wait_s)
        work.join(LAST_STEP_S)
    finally:
        worker.close()
    if work.is_alive():
        log.warning("the store does not answer: this worker ends without its last records")
        # A library's thread that hangs with ours could hold up the interpreter's end.
        over = threading.Event()
        over.set()
        exit_after(over, ABANDON_S)
        return 0
    beat.stop(timeout_s=LAST_STEP_S if worker.terminated else 5.0)
    if work.error is not None:
        raise work.error
    return worker.exit_code or 0


def run_worker(
    order: Order,
    scratch: Path,
    slots: int | None = None,
    clock: Clock = SYSTEM,
    make: Callable[..., Worker] = Worker,
) -> int:
    """Be the worker of a lease until there is nothing left to do.

    Returns:
        See ``run``.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_below(scratch):
            return run(make(order, scratch, slots, clock))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def within(seconds: float, action: Callable[[], object]) -> bool:
    """Do something that may hang, and wait for it no longer than so; True when it is done."""
    done = threading.Event()

    def act() -> None:
        try:
            action()
        except Exception as error:
            log.warning("this was not done before the end: %s", error)
        else:
            done.set()

    thread = threading.Thread(target=act, name="within", daemon=True)
    thread.start()
    thread.join(seconds)
    return done.is_set()


def exit_after(event: threading.Event, seconds: float, code: int = 0) -> None:
    """End this process some time after an event, if it is still there: something of it hangs."""

    def watch() -> None:
        event.wait()
        threading.Event().wait(seconds)
        os._exit(code)

    threading.Thread(target=watch, name="exit", daemon=True).start()
