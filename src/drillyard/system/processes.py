"""Processes of this machine: identified by pid and start time, found by a mark, ended together.

A pid alone does not identify a process, because it is reused. On Linux, the start time is read in
ticks since boot, so that a change of the wall clock has no effect.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "DRILLYARD_LEASE"
"""Environment variable that every process of a lease carries."""
_SAME_START_S = 0.05
_EXITING = 0x4
"""PF_EXITING of the Linux kernel: the process runs no code, and only frees its memory."""


@functools.lru_cache(maxsize=1)
def _own(pid: int) -> ProcessId:
    """This process, whose number changes with a fork."""
    found = ProcessId.of(pid)
    assert found is not None, "this process is alive"
    return found


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


def _started(pid: int) -> float | None:
    if pid <= 0:
        return None
    if Path("/proc/self/stat").exists():
        try:
            # The command (field 2) may contain spaces and brackets: cut after its last bracket.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        if fields[0] in (b"Z", b"X") or int(fields[6]) & _EXITING:
            return None
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return float(process.create_time())
    return None


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
        if all(environment.get(name) == wanted for name, wanted in also.items()):
            found = ProcessId.of(process.pid)
            if found is not None:
                yield found


def in_session(leader: ProcessId) -> Iterator[ProcessId]:
    """Living processes of the session that a process leads or led.

    A pid is not reused while a session of that number exists, so a member of it belongs to this
    leader, unless another process leads it now.
    """
    now = ProcessId.of(leader.pid)
    if now is not None and not leader.alive():
        return
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader.pid:
                found = ProcessId.of(pid)
                if found is not None and found.started >= leader.started - _SAME_START_S:
                    yield found


def in_group(group: int) -> Iterator[ProcessId]:
    """Living processes of a process group in this session (so never of another program)."""
    session = os.getsid(0)
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == group and os.getsid(pid) == session:
                found = ProcessId.of(pid)
                if found is not None:
                    yield found


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Make the kernel signal this process when its parent ends, also by ``kill -9``.

    On Linux only; elsewhere it does nothing. It misses a parent that has ended before.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal a process if it is still the same one; False if it has ended."""
    if not process.alive():
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
            send(process, signal.SIGCONT)
        left = wait_gone(left, grace_s)
    for process in left:
        send(process, signal.SIGKILL)
    return wait_gone(left, 5.0)
