"""Starts and stops the services of a stack. Safe to repeat and to interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import psutil

from drillyard.errors import InfrastructureError
from drillyard.system.operating_system import DEFAULT_SIGNALS, SERVICE
from drillyard.system.processes import ProcessId, end, in_session, wait_gone
from drillyard_flows.local_stack.service import Service
from drillyard_flows.local_stack.stack import LocalStack

START_S = 600.0
"""Ends a hang only; a process that exited is reported at once. The first start migrates empty
databases, which takes twelve seconds, or minutes on a busy machine."""
SAY_S = 10.0
"""How often a wait is explained."""
FLUSH_S = 60.0
"""Time for stopped flow runs to write a last checkpoint and to tear down."""
GRACE_S = 15.0


def start(
    stack: LocalStack, service: Service, say: Callable[[str], None] = lambda text: None
) -> bool:
    """Starts a service unless it runs, and waits until it answers.

    Args:
        stack: The stack that starts it.
        service: The service.
        say: Receives what it waits for, every ten seconds.

    Returns:
        True if this call started it.

    Raises:
        InfrastructureError: It exited, or did not answer in time.
    """
    process = stack.process(service.name)
    new = process is None
    if process is None:
        if service.before is not None:
            service.before()
        with open(stack.log_of(service.name), "ab") as log:
            child = subprocess.Popen(
                service.command,
                env=dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=stack.folder,
                **SERVICE,
                **DEFAULT_SIGNALS,
            )
        process = ProcessId.of(child.pid)
        stack.keep(service.name, process)
    _wait_ready(stack, service, process, say)
    return new


def _wait_ready(
    stack: LocalStack, service: Service, process: ProcessId | None, say: Callable[[str], None]
) -> None:
    deadline = time.monotonic() + START_S
    silent_until = time.monotonic() + SAY_S
    problem = "no answer"
    while process is not None and process.alive() and time.monotonic() < deadline:
        if service.ready is None:
            return
        reason = service.ready()
        if reason is None:
            return
        problem = reason
        if time.monotonic() >= silent_until:
            silent_until += SAY_S
            say(f"waiting for {service.name}: {reason}; its log is {stack.log_of(service.name)}")
        time.sleep(0.2)
    if process is None or not process.alive():
        problem = "it exited"
    raise InfrastructureError(
        f"{service.name} did not start: {problem}",
        hint=f"read its log {stack.log_of(service.name)}, then run drillyard up again",
    )


def stop(stack: LocalStack, name: str, say: Callable[[str], None] = lambda text: None) -> bool:
    """Stops a service and every process that it started.

    Flow runs are stopped before their worker, which would kill them. So they write a last
    checkpoint and tear down what they rented.

    Args:
        stack: The stack that started it.
        name: Name of the service.
        say: Receives messages for the user.

    Returns:
        False if it was not running.

    Raises:
        InfrastructureError: It cannot be stopped.
    """
    leader = stack.process(name)
    if leader is None:
        stack.keep(name, None)
        return False
    if name == "worker":
        runs = _flow_runs(leader)
        if runs:
            say(f"stopping {len(runs)} flow runs")
            for run in runs:
                os.kill(run.pid, signal.SIGTERM)
            wait_gone(runs, FLUSH_S)
    processes = [leader, *in_session(leader)]
    remaining = end(processes, GRACE_S)
    if remaining:
        raise InfrastructureError(
            f"process {remaining[0].pid} of {name} could not be stopped",
            hint=f"inspect it with `ps -p {remaining[0].pid}`",
        )
    stack.keep(name, None)
    return True


def _flow_runs(worker: ProcessId) -> list[ProcessId]:
    try:
        children = psutil.Process(worker.pid).children()
    except psutil.Error:
        return []
    return [p for child in children if (p := ProcessId.of(child.pid)) is not None]
