"""Puts the virtual world where the product finds the real one: time, processes, threads, chance.

Nothing of the product's own decisions is replaced. What is: the clock, process ids and signals,
``threading``, random tokens, and what belongs to one process of a machine (its working folder).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from drillyard.registry import names, register
from drillyard.system.processes import ProcessId
from tests.simulation.world import EPOCH, Host, Process, World

_world: list[World] = []
_REAL_GETPID = os.getpid
_PACKAGES = ("drillyard", "drillyard_backends")
MODULES = (
    "drillyard.driver.six_phases",
    "drillyard.driver.driver",
    "drillyard.driver.compose",
    "drillyard.worker.loop",
    "drillyard.worker.execution",
    "drillyard.worker.sidecar",
    "drillyard.worker.orphans",
    "drillyard.worker.worker",
    "drillyard.leases.reaper.reaper",
    "drillyard.leases.ledger",
    "drillyard.leases.reaper.audit",
    "drillyard.studies.search",
    "drillyard.results.store_phase",
    "drillyard.results.copies",
    "drillyard.workloads.mock",
    "drillyard.runs.submit",
    "drillyard_backends.gcp.backend",
    "drillyard_backends.gcp.machine",
    "google.cloud.compute_v1",
    "google.auth.transport.requests",
    "tests.simulation.google",
    "drillyard_backends.azure.backend",
    "azure.core.pipeline.transport",
    "azure.core.credentials",
    "tests.simulation.azure",
)
"""Imported before anything is replaced."""


def world() -> World:
    """The world of the schedule at work."""
    return _world[-1]


def current() -> Process | None:
    """The process whose fiber runs now."""
    fiber = _world[-1].current if _world else None
    return None if fiber is None else fiber.process


def here() -> Host | None:
    """The machine on which the present fiber runs."""
    process = current()
    return None if process is None else process.host


def _now() -> float:
    host = here()
    return EPOCH + world().time + (0.0 if host is None else host.skew_s)


def _monotonic() -> float:
    host = here()
    return 1000.0 + world().time - (0.0 if host is None else host.slept_s)


def _sleep(seconds: float) -> None:
    world().sleep(seconds)


def _pid() -> int:
    process = current()
    return _REAL_GETPID() if process is None else process.pid


def _started(pid: int) -> float | None:
    host = here()
    process = None if host is None else host.processes.get(pid)
    return None if process is None else process.started


def _find(process_id: ProcessId) -> Process | None:
    host = here()
    found = None if host is None else host.processes.get(process_id.pid)
    return found if found is not None and found.started == process_id.started else None


def _marked(lease: str, **_: str) -> Iterator[ProcessId]:
    host = here()
    if host is not None:
        for process in list(host.processes.values()):
            if process.mark == lease:
                yield ProcessId(process.pid, process.started)


def signal_to(process: Process, number: int) -> None:
    """Deliver a signal."""
    import signal

    if number == signal.SIGKILL:
        process.die()
    elif number == signal.SIGCONT:
        process.paused_until = 0.0
    elif number == signal.SIGTERM:
        process.on_term() if process.on_term is not None else process.die()


def _send(process_id: ProcessId, number: int) -> None:
    found = _find(process_id)
    if found is not None:
        signal_to(found, number)


def _end(processes: Any, grace_s: float = 0.0) -> None:
    del grace_s
    for process_id in list(processes):
        found = _find(process_id)
        if found is not None:
            found.die()


def _exit(code: int) -> None:
    process = current()
    assert process is not None, "os._exit outside of the simulation"
    process.result = code
    process.die()


def _kill_group(group: int, number: int) -> None:
    del group, number
    process = current()
    assert process is not None, "os.killpg outside of the simulation"
    process.die()


def _token_hex(nbytes: int | None = None) -> str:
    return f"{world().tokens.getrandbits(8 * (nbytes or 32)):0{2 * (nbytes or 32)}x}"


def _token_bytes(nbytes: int | None = None) -> bytes:
    return bytes.fromhex(_token_hex(nbytes))


def _uuid() -> uuid.UUID:
    return uuid.UUID(int=world().tokens.getrandbits(128), version=4)


def _boot() -> str | None:
    host = here()
    return None if host is None else host.boot


def _node() -> str:
    host = here()
    return "hub" if host is None else host.name


def home_of(host: Host) -> Path:
    """The ``DRILLYARD_HOME`` of a machine."""
    return world().folder / "home" / host.name


def _home() -> Path:
    host = here()
    return world().folder / "home" / (host.name if host else "hub")


def _load(kind: str, name: str) -> Any:
    """Every store is the simulated one, whatever its scheme."""
    from drillyard.registry import load

    return load(kind, "sim" if kind == "stores" else name)


def _ticket_signals(stop: Any) -> None:
    from drillyard.mailbox.status import Cause

    process = current()
    assert process is not None
    process.on_term = lambda: stop.set(Cause.PREEMPTION, "SIGTERM")


def _worker_signals(worker: Any) -> None:
    process = current()
    assert process is not None
    process.on_term = worker.terminate


def _mock_wait(context: Any, seconds: float) -> None:
    """The work itself: time passes, and a stop is noticed within a second."""
    from drillyard.errors import Stopped

    left = seconds
    while left > 0:
        if context.stop.requested:
            raise Stopped(context.stop.reason)
        world().sleep(min(left, 1.0))
        left -= 1.0


class NoMirror:
    """In place of the mirrors to trackers."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def start(self) -> None:
        """Nothing."""

    ask = leave = start

    def finish(self, timeout_s: float) -> list[object]:
        """Nothing."""
        return []


def _work_class() -> type:
    from drillyard.worker import loop
    from tests.simulation.threads import Thread

    def made(self: Any, worker: Any) -> None:
        Thread.__init__(self)
        self._worker, self.error = worker, None

    return type("Work", (Thread,), {"__init__": made, "run": loop._Work.run})


@contextlib.contextmanager
def installed(extra: tuple[tuple[str, Any], ...] = ()) -> Iterator[Callable[[World], None]]:
    """Replace all of it; yields a function that sets the world of the next schedule."""
    import importlib

    from tests.simulation.threads import Module, Pool, Thread

    for module in MODULES:
        importlib.import_module(module)
    from tests.simulation import azure, google, machine

    if "sim" not in names("stores"):
        register("stores", "sim", "tests.simulation.store:SimStore")
        register("backends", "sim", "tests.simulation.provider:SimBackend")
        register("backends", "dear", "tests.simulation.provider:DearBackend")
        register("backends", "away", "tests.simulation.provider:AwayBackend")
    with contextlib.ExitStack() as undo:

        def put(target: str, value: object) -> None:
            undo.enter_context(mock.patch(target, value))

        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in _PACKAGES:
                continue
            for attribute, real, ours in (
                ("threading", threading, Module()),
                ("ThreadPoolExecutor", ThreadPoolExecutor, Pool),
                ("Thread", threading.Thread, Thread),
                ("local_home", None, _home),
                ("boot_id", None, _boot),
                ("pid_namespace", None, lambda: 1),
            ):
                there = module.__dict__.get(attribute)
                if there is not None and (real is None or there is real):
                    undo.enter_context(mock.patch.object(module, attribute, ours))
        for target, value in (
            ("time.time", _now),
            ("time.monotonic", _monotonic),
            ("time.sleep", _sleep),
            ("os.getpid", _pid),
            ("os.getppid", lambda: 1),
            ("os.killpg", _kill_group),
            ("os.getpgrp", lambda: 0),
            ("os._exit", _exit),
            ("os.fsync", lambda descriptor: None),
            ("platform.node", _node),
            ("secrets.token_hex", _token_hex),
            ("secrets.token_bytes", _token_bytes),
            ("uuid.uuid4", _uuid),
            ("drillyard.system.processes._started", _started),
            ("drillyard.system.processes._own", ProcessId.of),  # hosts have the same numbers
            ("drillyard.worker.worker.marked", _marked),
            ("drillyard.worker.orphans.send", _send),
            ("drillyard.worker.orphans.end", _end),
            ("drillyard.worker.execution.listen_in_attempt", _ticket_signals),
            ("drillyard.worker.execution._set_threads", lambda run: None),
            ("drillyard.worker.execution.Sampler.sample", lambda self: {}),
            ("drillyard.worker.execution.workplace", lambda scratch, code: "."),
            ("drillyard.worker.loop.listen_in_worker", _worker_signals),
            ("drillyard.worker.loop._Work", _work_class()),
            ("drillyard.worker.copy_hosts.start_host", machine.SimHost),
            ("drillyard.workloads.mock._wait", _mock_wait),
            ("drillyard.driver.six_phases.Mirrors", NoMirror),
            ("drillyard.runs.submit.git_state", lambda folder: (None, None)),
            ("drillyard.runs.submit.versions", dict),
            ("drillyard.system.platform_info.versions", dict),  # reads many files
            ("requests.sessions.get_environ_proxies", lambda *_, **__: {}),  # for each request
            *extra,
        ):
            put(target, value)
        put("drillyard.mailbox.store.load", _load)
        google.install(undo)
        azure.install(undo)
        state, level = random.getstate(), logging.root.manager.disable
        gc.collect()
        gc.freeze()  # what was imported: otherwise each collection goes through all of it
        logging.disable(logging.CRITICAL)

        def begin(world: World) -> None:
            _world[:] = [world]
            random.seed(world.plan.seed)

        try:
            yield begin
        finally:
            gc.unfreeze()
            _world.clear()
            random.setstate(state)
            logging.disable(level)
