"""Starting and stopping the members of the house; safe to repeat, safe to interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import psutil

from drillyard.errors import InfrastructureError
from drillyard.system.processes import ProcessId, end, in_session, wait_gone
from drillyard_flows.local_stack.service import Member
from drillyard_flows.local_stack.stack import LocalStack

START_S = 600.0
"""Ends a hang only: one that died is told at once. Empty databases are migrated at the first
start, which takes twelve seconds, or minutes on a machine with much other work."""
FLUSH_S = 60.0
"""For flow runs that are told to stop: the last checkpoint, and what was rented."""
GRACE_S = 15.0


def start(house: LocalStack, member: Member) -> bool:
    """Start a member unless it lives, and wait until it answers.

    Returns:
        True where it was started now.

    Raises:
        InfrastructureError: It ended, or does not answer in time.
    """
    found = house.process(member.name)
    new = found is None
    if found is None:
        if member.before is not None:
            member.before()
        with open(house.log_of(member.name), "ab") as log:
            child = subprocess.Popen(
                member.command,
                env=dict(member.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=house.folder,
                umask=0o077,
                start_new_session=True,
                # Inherited from a shell's background job, a worker would not hear its SIGTERM.
                preexec_fn=_hear,
            )
        found = ProcessId.of(child.pid)
        house.keep(member.name, found)
    _answering(house, member, found)
    if member.after is not None:
        member.after()
    return new


def _hear() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _answering(house: LocalStack, member: Member, process: ProcessId | None) -> None:
    deadline = time.monotonic() + START_S
    problem = "no answer"
    while process is not None and process.alive() and time.monotonic() < deadline:
        if member.ready is None:
            return
        reason = member.ready()
        if reason is None:
            return
        problem = reason
        time.sleep(0.2)
    if process is None or not process.alive():
        problem = "it ended"
    raise InfrastructureError(
        f"{member.name} did not start: {problem}",
        hint=f"its last words: {house.log_of(member.name)}; then drillyard up again",
    )


def stop(house: LocalStack, name: str, say: Callable[[str], None] = lambda text: None) -> bool:
    """Stop a member and everything that it started here.

    Flow runs are stopped before their worker, which would end them without a last word: they keep
    their last checkpoint and give back what they rented.

    Args:
        house: Where it was started.
        name: Of the member.
        say: Gets sentences for the user.

    Returns:
        False where it did not live.

    Raises:
        InfrastructureError: It cannot be ended.
    """
    leader = house.process(name)
    if leader is None:
        house.keep(name, None)
        return False
    if name == "worker":
        runs = _flow_runs(leader)
        if runs:
            say(f"stopping {len(runs)} flow runs")
            for run in runs:
                os.kill(run.pid, signal.SIGTERM)
            wait_gone(runs, FLUSH_S)
    members = [leader, *in_session(leader)]
    left = end(members, GRACE_S)
    if left:
        raise InfrastructureError(
            f"{name} cannot be ended: process {left[0].pid}", hint="look at it with `ps`"
        )
    house.keep(name, None)
    return True


def _flow_runs(worker: ProcessId) -> list[ProcessId]:
    try:
        children = psutil.Process(worker.pid).children()
    except psutil.Error:
        return []
    return [found for child in children if (found := ProcessId.of(child.pid)) is not None]
