"""Programs that tests run to their end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from drillyard.system.processes import ProcessId, marked
from drillyard_emulators.http.machines import EMULATOR_MARK, MACHINE_MARK
from tests.helpers.patience import PATIENCE_S


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nothing listens now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def machines_of(mark: str, machine: str | None = None) -> list[ProcessId]:
    """Living processes of the machines of one emulator; others may have machines of that id.

    Args:
        mark: ``emulator.greeting["mark"]``.
        machine: Id of a machine; None: all.
    """
    return list(marked(machine, MACHINE_MARK, **{EMULATOR_MARK: mark}))


def run_process(
    words: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
    input: str | None = None,
    timeout: float = PATIENCE_S,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it printed is text.

    Args:
        words: Its name and arguments.
        cwd: Where it runs.
        env: Its environment; default: this process's.
        more: Variables beside those of this process.
        input: What it reads.
        timeout: Seconds after which it counts as hung.
        check: Whether another exit code than 0 is an error.
    """
    return subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **more} if more is not None else env,
        input=input,
        timeout=timeout,
        check=check,
        capture_output=True,
        text=True,
    )
