"""Processes of this machine: identified by pid and start time, found by a mark, ended together.

A pid alone does not identify a process, because it is reused.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psutil

from drillyard.system.operating_system import (
    CONTINUE,
    KILL,
    group_of,
    session_of,
)
from drillyard.system.operating_system import (
    process_start as _started,
)

MARK = "DRILLYARD_LEASE"
"""Environment variable that every process of a lease carries."""
_SAME_START_S = 0.05


@functools.lru_cache(maxsize=1)
def _own(pid: int) -> ProcessId:
    """This process, whose number changes with a fork."""
    process = ProcessId.of(pid)
    assert process is not None, "this process is alive"
    return process


@dataclass(frozen=True, slots=True)
class ProcessId:
    """The identity of one process.

    Attributes:
        pid: Its number.
        started: When it started: seconds since boot on Linux, since the epoch elsewhere. Only
            ever compared on the machine that wrote it.
    """

    pid: int
    started: float

    @classmethod
    def current(cls) -> ProcessId:
        """This process."""
        return _own(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now; None if there is none, or if it is exiting."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    def alive(self) -> bool:
        """True while this process can still run code.

        A stopped process is alive. A zombie is not, and neither is a process whose memory the
        kernel is freeing: that takes a while, and its environment cannot be read.
        """
        now = _started(self.pid)
        return now is not None and abs(now - self.started) < _SAME_START_S


def marked(value: str | None = None, mark: str = MARK, **also: str) -> Iterator[ProcessId]:
    """Living processes whose environment at their start carries a mark.

    Args:
        value: The mark's value; None for any.
        mark: Name of the environment variable.
        **also: Further variables that must have these values.
    """
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):  # another user's process, or it ended meanwhile
            continue
        if mark not in environment or (value is not None and environment[mark] != value):
            continue
        if all(environment.get(name) == text for name, text in also.items()):
            identity = ProcessId.of(process.pid)
            if identity is not None:
                yield identity


def tree(root: ProcessId) -> list[ProcessId]:
    """A living process and those that it started, directly or not; empty if it has ended."""
    if not root.alive():
        return []
    pids = [root.pid]
    with contextlib.suppress(psutil.Error):
        pids += [child.pid for child in psutil.Process(root.pid).children(recursive=True)]
    return [process for pid in pids if (process := ProcessId.of(pid)) is not None]


def in_session(leader: ProcessId) -> Iterator[ProcessId]:
    """Living processes of the session that a process leads or led.

    A pid is not reused while a session of that number exists, so a member of it belongs to this
    leader, unless another process leads it now.
    """
    now = ProcessId.of(leader.pid)
    if now is not None and not leader.alive():
        return
    for pid in psutil.pids():
        if session_of(pid) == leader.pid:
            identity = ProcessId.of(pid)
            if identity is not None and identity.started >= leader.started - _SAME_START_S:
                yield identity


def in_group(group: int) -> Iterator[ProcessId]:
    """Living processes of a process group in this session (so never of another program)."""
    session = session_of(0)
    for pid in psutil.pids():
        if group_of(pid) == group and session_of(pid) == session:
            identity = ProcessId.of(pid)
            if identity is not None:
                yield identity


def send(process: ProcessId, number: signal.Signals | None) -> bool:
    """Signal a process if it is still the same one; False if it has ended.

    Args:
        process: The process.
        number: The signal; None for one that this system does not have.
    """
    if number is None or not process.alive():
        return False
    try:
        os.kill(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def wait_gone(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Wait until all have ended; returns those that are alive after the time."""
    deadline = time.monotonic() + timeout_s
    left = [p for p in processes if p.alive()]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [p for p in left if p.alive()]
    return left


def end(processes: Iterable[ProcessId], grace_s: float) -> list[ProcessId]:
    """End processes: SIGTERM, then SIGKILL for those that are alive after the grace.

    Args:
        processes: The processes.
        grace_s: Seconds between the two; 0 kills at once.

    Returns:
        Those that are still alive (in uninterruptible sleep).
    """
    left = [p for p in processes if p.alive()]
    if grace_s > 0:
        for process in left:
            send(process, signal.SIGTERM)
            # A stopped process receives only SIGKILL until it is continued.
            send(process, CONTINUE)
        left = wait_gone(left, grace_s)
    for process in left:
        send(process, KILL)
    return wait_gone(left, 5.0)
