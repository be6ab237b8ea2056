"""Processes that were killed from outside: by the system for want of memory, or by a person.

No program can catch SIGKILL, so it says nothing about the program. An attempt that ended with it
is tried again, as one whose machine is gone.
"""

from __future__ import annotations

from drillyard.errors import OutOfMemory, ProcessKilled
from drillyard.system.operating_system import oom_kills

KILLED = (-9, 137)
"""Exit codes: the process itself received SIGKILL, or a shell says so of its child."""


def killed(message: str, oom_kills_before: int) -> ProcessKilled:
    """The error for a process that was killed.

    Args:
        message: Which process.
        oom_kills_before: ``oom_kills`` when it began.
    """
    if oom_kills() > oom_kills_before:
        return OutOfMemory(
            f"{message}: the system has no free memory",
            hint="use fewer copies of the simulator, a smaller buffer, or fewer workers",
        )
    return ProcessKilled(
        message,
        hint="something other than drillyard killed it: the system does this when memory is "
        "short, and a person or a job scheduler can",
    )
