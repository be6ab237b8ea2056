"""Copies on hosts: their steps/s over those of one copy, and what a step costs beyond the network.

    python -m tests.benchmarks.copies [copies [hosts [threads|processes]]]

The simulator waits 50 ms a step and uses no processor, as a licensed program or a machine at the
other end of a line does. Hosts are processes of this machine. The second figure goes through a
proxy that holds each byte back for 2 ms in each direction, as a network of 4 ms does. Each figure
is measured twice: with a process for each copy, and with copies in threads of their host, which is
how a simulator is hosted that says ``thread_safe``.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from drillyard.simulators.hosts.certificates import Identity
from drillyard.simulators.hosts.listener import HostListener, JoinedHost
from drillyard.simulators.hosts.providers import start_host
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.files import PRIVATE, write_file

WAIT_S, LATENCY_S, STEPS = 0.05, 0.004, 40
WORLDS = {
    "processes": "tests.helpers.hosted_worlds:Waits",
    "threads": "tests.helpers.hosted_worlds:WaitsInThreads",
}


def main(copies: int = 64, hosts: int = 8, *forms: str) -> None:
    """Print both figures beside their targets."""
    for how in forms or WORLDS:
        world = WORLDS[how]
        one = step_s(world, 1, None)
        with joined(world, hosts, 0.0) as present:
            many = step_s(world, copies, present)
        share = (copies / many) / (copies / one)
        print(
            f"{copies} copies in {how} on {hosts} hosts, steps/s over {copies} times one copy: "
            f"{share:.3f} (target: at least 0.9)",
            flush=True,
        )
        with joined(world, hosts, LATENCY_S) as present:
            far = step_s(world, copies, present)
        over, most = far - one - LATENCY_S, 3e-3 + 20e-6 * copies
        print(
            f"a step beyond the simulator and {LATENCY_S * 1e3:g} ms of network: "
            f"{over * 1e3:.2f} ms, {over / most:.2f} of the target ({most * 1e3:.2f} ms)",
            flush=True,
        )


def step_s(world: str, copies: int, present: list[JoinedHost] | None) -> float:
    """The median seconds of a vectorised step."""
    spec = SimulatorSpec(id=world, args={"wait_s": WAIT_S})
    venv = make_vec(spec, copies, 0, hosts=None if present is None else lambda: present)
    try:
        venv.reset()
        actions = np.zeros((copies, *venv.action_space.shape), np.float32)
        taken = []
        for _ in range(STEPS):
            began = time.perf_counter()
            venv.step(actions)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)
    finally:
        venv.close()


@contextmanager
def joined(world: str, hosts: int, latency_s: float) -> Iterator[list[JoinedHost]]:
    """Hosts that have joined, behind a network with this round trip."""
    with ExitStack() as stack:
        learner = HostListener(Identity.new(), world)
        stack.callback(learner.close)
        invitation = learner.invitation()
        if latency_s:
            port = stack.enter_context(slow_network(learner.port, latency_s / 2))
            invitation = replace(invitation, address=f"127.0.0.1:{port}")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_file(folder / "i.json", invitation.to_json(), PRIVATE)
        for number in range(hosts):
            process = start_host(folder / "i.json", f"h{number}", quiet=True)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        while len(learner.joined()) < hosts:
            learner.wait(1.0)
        yield learner.joined()


@contextmanager
def slow_network(port: int, one_way_s: float) -> Iterator[int]:
    """A proxy to a port that holds back what it carries; yields its own port.

    It is a process of its own, as a network takes no time of the learner's interpreter.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_carry, args=(theirs, port, one_way_s), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _carry(told: Connection, port: int, one_way_s: float) -> None:
    """Body of the proxy: hold back each piece by the time of one way, to the microsecond."""
    server = socket.create_server(("127.0.0.1", 0))
    told.send(server.getsockname()[1])
    others: dict[socket.socket, socket.socket] = {}
    waiting: collections.deque[tuple[float, socket.socket, bytes]] = collections.deque()
    while True:
        patience = max(0.0, waiting[0][0] - time.perf_counter()) if waiting else None
        # Others of the kind, such as ``epoll``, wait for whole milliseconds.
        ready = select.select([server, *others], [], [], patience)[0]
        now = time.perf_counter()
        for one in ready:
            if one is server:
                here, _ = server.accept()
                there = socket.create_connection(("127.0.0.1", port))
                for end, other in ((here, there), (there, here)):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    others[end] = other
                continue
            with contextlib.suppress(OSError):
                if one in others and (data := one.recv(1 << 16)):
                    waiting.append((now + one_way_s, others[one], data))
                    continue
            if one in others:  # the end of a connection is the end of both of its halves
                other = others.pop(one)
                others.pop(other, None)
                one.close()
                other.close()
        while waiting and waiting[0][0] <= time.perf_counter():
            _, to, data = waiting.popleft()
            with contextlib.suppress(OSError):
                to.sendall(data)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
