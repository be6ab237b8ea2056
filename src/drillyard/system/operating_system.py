"""What differs between operating systems: the only module that asks which one this is.

Signals, process groups, fork or spawn, links, and what Linux tells under ``/proc``. Locks are in
``files``. What a system does not have gets the nearest thing that it has, or nothing.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import platform
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import DefaultContext
from pathlib import Path
from typing import IO, Any, TextIO, cast

import psutil

LINUX = sys.platform.startswith("linux")
POSIX = os.name == "posix"
_MACOS = sys.platform == "darwin"
_PROC = Path("/proc")
NVIDIA = _PROC / "driver" / "nvidia" / "version"
"""What NVIDIA's kernel module says of itself, where it is loaded."""
_TIMEOUT_S = 5.0
_EXITING = 0x4
"""PF_EXITING of the Linux kernel: the process runs no code, and only frees its memory."""


def _signal(name: str) -> signal.Signals | None:
    return getattr(signal, name, None)


KILL: signal.Signals = _signal("SIGKILL") or signal.SIGTERM
"""Ends a process that cannot refuse."""
STOP = _signal("SIGSTOP")
CONTINUE = _signal("SIGCONT")
ALARM = _signal("SIGALRM")
DUMP = _signal("SIGUSR2")
"""Asks a process for its stacks."""
HANG_UP = _signal("SIGHUP")
ENDINGS = tuple(
    number for number in (signal.SIGTERM, signal.SIGINT, HANG_UP) if number is not None
)
"""Signals that ask a process to end: by a program, at a terminal, when a terminal closes."""


# -- processes ----------------------------------------------------------------------------------


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


OWN_SESSION: dict[str, Any] = (
    {"start_new_session": True}
    if POSIX
    else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
)
"""Arguments of ``subprocess.Popen`` for a process that Ctrl-C at this terminal does not reach."""
SERVICE: dict[str, Any] = {**OWN_SESSION, "umask": 0o077}
"""The same for a process that outlives this one, and whose files are private."""
DEFAULT_SIGNALS: dict[str, Any] = {"preexec_fn": _default_signals} if POSIX else {}
"""For a child of a background job of a shell, which ignores signals: its children inherit that."""


def start_context(*methods: str) -> DefaultContext:
    """Returns the first way to start Python processes that this system has.

    Args:
        *methods: ``fork``, ``forkserver`` or ``spawn``, the preferred one first.
    """
    known = multiprocessing.get_all_start_methods()
    method = next((m for m in methods if m in known), "spawn")
    return cast(DefaultContext, multiprocessing.get_context(method))


def after_fork(work: Callable[[], object]) -> None:
    """Calls a function in each process that is forked from this one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=work)


def lead_group() -> None:
    """Makes this process the leader of a group, so that what it starts is ended with it."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpgid(0, 0)


def group_of(pid: int) -> int | None:
    """Returns the process group of a process; None if there is none."""
    with contextlib.suppress(OSError, AttributeError):
        return os.getpgid(pid)
    return None


def own_group() -> int:
    """Returns the process group of this process."""
    return os.getpgrp() if POSIX else os.getpid()


def session_of(pid: int) -> int | None:
    """Returns the session of a process, 0 for this one; None if there is none."""
    with contextlib.suppress(OSError, AttributeError):
        return os.getsid(pid)
    return None


def signal_group(group: int, number: signal.Signals = KILL) -> bool:
    """Sends a signal to a process group; False if there is no such group of this user."""
    with contextlib.suppress(OSError, AttributeError):
        os.killpg(group, number)
        return True
    return False


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Makes the kernel signal this process when its parent ends, also by ``kill -9``.

    On Linux only; elsewhere it does nothing. It misses a parent that has ended before.
    """
    if LINUX:
        import ctypes

        ctypes.CDLL(None).prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG


def end_first() -> None:
    """Where memory runs out, Linux ends this process, and not the one that started it."""
    with contextlib.suppress(OSError):
        (_PROC / "self/oom_score_adj").write_text("1000", encoding="ascii")


def yield_processor() -> None:
    """Lets other processes of this machine go first."""
    if hasattr(os, "nice"):
        os.nice(10)


def process_start(pid: int) -> float | None:
    """Returns when a process that can still run code started; None if there is none.

    Args:
        pid: Its number.

    Returns:
        Seconds since boot on Linux, where the wall clock has no effect; since the epoch elsewhere.
    """
    if pid <= 0:
        return None
    if (_PROC / "self/stat").exists():
        try:
            # The command (field 2) may contain spaces and brackets: cut after its last bracket.
            fields = (_PROC / f"{pid}/stat").read_bytes().rpartition(b")")[2].split()
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


# -- the machine --------------------------------------------------------------------------------


@functools.cache
def boot_id() -> str | None:
    """Returns an id that changes with each boot of this machine; None if the system has none.

    On Linux ``/proc/sys/kernel/random/boot_id`` (random(4)), on macOS ``kern.bootsessionuuid``.
    """
    if _MACOS:
        return _sysctl("kern.bootsessionuuid")
    try:
        text = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return text.strip() or None


def pid_namespace() -> int | None:
    """Returns the inode of this process's pid namespace (namespaces(7)); 0 without namespaces.

    Returns:
        None if it cannot be read, or if ``/proc`` shows the processes of another namespace.
    """
    if not LINUX:
        return 0
    try:
        if os.readlink(_PROC / "self") != str(os.getpid()):
            return None
        return (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return None


@functools.cache
def cpu_brand() -> str:
    """Returns maker and model of the processor."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "cpuinfo").read_text(errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    brand = _sysctl("machdep.cpu.brand_string") if _MACOS else None
    return brand or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Returns how many cores this process may use, which a container or ``taskset`` may limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def oom_kills() -> int:
    """Number of processes that the kernel killed on this machine to free memory; 0: unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROC / "vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def nvidia_gpus() -> int:
    """Returns how many GPUs the driver of NVIDIA lists here."""
    return sum(1 for _ in (_PROC / "driver/nvidia/gpus").glob("*"))


def user_id() -> int:
    """Returns the number of this user; 0 on a system whose users have none."""
    return os.getuid() if hasattr(os, "getuid") else 0


def is_own(path: Path) -> bool:
    """Returns whether a file or folder belongs to this user."""
    return path.stat().st_uid == user_id()


def _sysctl(name: str) -> str | None:
    command = ["sysctl", "-n", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


# -- files --------------------------------------------------------------------------------------


def link(source: Path, target: Path) -> None:
    """Gives a file a second name, which must be free; see ``os.link``."""
    os.link(source, target)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hold(file: IO[bytes]) -> None:
    """Locks an open file until every process that inherits it has closed it."""
    if POSIX:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX)


def allocate(descriptor: int, start: int, size: int) -> None:
    """Takes room on the disk for a part of a file.

    Raises:
        OSError: The disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, size)


def is_unread(stream: TextIO) -> bool:
    """Returns whether the reader of a pipe is gone; True where the system does not tell."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # what it reports needs not be asked for
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def settings_folder() -> Path:
    """Returns the folder in which programs keep a user's settings; other variables may win."""
    roaming = None if POSIX else os.environ.get("APPDATA")
    return Path(roaming) if roaming else Path("~/.config").expanduser()


def cuda_of_the_library() -> int:
    """Returns the newest major version of CUDA that the driver's library runs; 0 without one.

    NVIDIA's package ``cuda-compat`` brings a library that is newer than the driver:
    https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html, read 2026-11-26.
    """
    import ctypes

    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return version.value // 1000
