"""Whether copies on other machines would be faster: measured with one host on this machine."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from drillyard.errors import WorkerLost
from drillyard.findings import Finding, passed, warning
from drillyard.simulators.hosts.certificates import Identity
from drillyard.simulators.hosts.listener import HostListener
from drillyard.simulators.hosts.providers import start_host
from drillyard.simulators.make_copies import by_rule, make_vec
from drillyard.spec.learning import VECTORISED_FROM, SimulatorSpec, Way
from drillyard.system.files import PRIVATE, write_file
from drillyard.system.watchdog import keep_alive

NETWORK_S = 1e-3
"""Assumed: a message to another machine of the same network and back."""
COPY_S = 20e-6
"""Work of the learner for each hosted copy of a step, at most."""
_FOR_S = 0.5
_COME_S = 60.0


def comparison(simulator: SimulatorSpec, n_envs: int, hosts: int) -> Finding:
    """Compares the expected speed of copies on hosts with that of copies here.

    Args:
        simulator: The simulator part of an experiment.
        n_envs: Number of copies.
        hosts: Number of hosts, each with as many cores as this machine.

    Returns:
        A warning if hosts would be slower.
    """
    plain = simulator.model_copy(update={"copies_on": "learner"})
    rule = by_rule(n_envs >= VECTORISED_FROM, plain)
    with keep_alive("measuring copies in one process"):
        here_s = _step_s(plain, n_envs, rule)
        copy_s = _step_s(plain, 1, "one-by-one")
    with keep_alive("measuring a host of copies"):
        message_s = max(0.0, _hosted_s(plain) - copy_s)
    there_s = expected_s(copy_s, message_s + NETWORK_S, n_envs, hosts, os.cpu_count() or 1)
    text = (
        f"{n_envs} copies: about {n_envs / there_s:,.0f} steps/s on {hosts} hosts like this "
        f"machine, {n_envs / here_s:,.0f} in one process here (a step takes a copy "
        f"{copy_s * 1e3:.2g} ms, and a message to a host {message_s * 1e3:.2g} ms and the network)"
    )
    if there_s <= here_s:
        faster = f"{here_s / there_s:.1f} times as fast"
        return passed("simulator.copies_on", f"{faster}; {text}")
    return warning(
        "simulator.copies_on",
        f"hosts would be {there_s / here_s:.1f} times slower; {text}",
        "delete copies_on: this simulator is faster beside the learner",
    )


def expected_s(copy_s: float, message_s: float, n_envs: int, hosts: int, cores: int) -> float:
    """Seconds of a vectorised step on hosts.

    Args:
        copy_s: Seconds of a step of one copy.
        message_s: Seconds of a message to a host and back.
        n_envs: Number of copies.
        hosts: Number of hosts.
        cores: Cores of each host. Copies that wait for something share a core well, so this is
            the worst case.
    """
    each = math.ceil(n_envs / hosts)
    return message_s + COPY_S * n_envs + copy_s * math.ceil(each / cores)


def _step_s(simulator: SimulatorSpec, copies: int, how: Way) -> float:
    venv = make_vec(simulator, copies, 0, how=how)
    try:
        return _timed(venv)
    finally:
        venv.close()


def _hosted_s(simulator: SimulatorSpec) -> float:
    process: subprocess.Popen[bytes] | None = None
    learner = HostListener(Identity.new(), simulator.id)
    with tempfile.TemporaryDirectory(prefix="drillyard-") as folder:
        path = Path(folder) / "invitation.json"
        write_file(path, learner.invitation().to_json(), PRIVATE)
        try:
            process = start_host(path, "measured", quiet=True)
            deadline = time.monotonic() + _COME_S
            while not learner.joined():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise WorkerLost("a host of copies on this machine did not join")
                learner.wait(0.2)
            venv = make_vec(simulator, 1, 0, hosts=learner.joined)
            try:
                return _timed(venv)
            finally:
                venv.close()
        finally:
            learner.close()
            if process is not None:
                process.terminate()
                process.wait()


def _timed(venv: object) -> float:
    """The median seconds of a step at random actions."""
    from stable_baselines3.common.vec_env import VecEnv

    assert isinstance(venv, VecEnv)
    venv.reset()
    venv.action_space.seed(0)
    actions = np.array([venv.action_space.sample() for _ in range(venv.num_envs)])
    venv.step(actions)  # compiled by then
    taken: list[float] = []
    until = time.perf_counter() + _FOR_S
    while not taken or time.perf_counter() < until:
        began = time.perf_counter()
        venv.step(actions)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
