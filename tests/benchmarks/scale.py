"""A model of one vectorised step over many machines: where the learner becomes the limit.

    python -m tests.benchmarks.scale             # prints the tables of docs/explanation/scale.md
    python -m tests.benchmarks.scale --measure   # measures the constants of ``MEASURED`` here

The learner sends one frame to each host, the hosts step their copies, and each sends one frame
back. Then the learner chooses actions and, from time to time, updates its networks. It is one
process, so that its own work adds up over copies and hosts; the hosts work at the same time.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Costs:
    """What a step costs the learner.

    Attributes:
        step_s: Seconds for the step itself, however many copies there are.
        host_s: Processor seconds for each host: one TLS frame out, one in.
        byte_s: Processor seconds for each byte: encryption and copying.
        copy_s: Processor seconds for each copy: its row, its rewards, its ended episodes.
        round_trip_s: Seconds of the network.
        bytes_per_s: What the learner's network takes.
    """

    step_s: float
    host_s: float
    byte_s: float
    copy_s: float
    round_trip_s: float
    bytes_per_s: float


MEASURED = Costs(
    # Both are the most that the design of copies on hosts allows.
    step_s=3e-3,
    copy_s=20e-6,
    host_s=14e-6,
    byte_s=0.9e-9,
    # The emulated network of its target. Within a zone of a cloud it is less.
    round_trip_s=4e-3,
    # 10 Gbit/s, which machines of 8 CPUs and more have on both clouds.
    bytes_per_s=1.25e9,
)
"""``host_s`` and ``byte_s``: ``--measure``, 23 November 2026, two cores of a virtual machine."""


@dataclass(frozen=True)
class Case:
    """An experiment.

    Attributes:
        title: What it is.
        sim_s: Seconds of a step of one copy.
        bytes: Bytes of a copy's step over the network, in both directions.
        learn_s: Seconds of the learner for each environment step: actions and updates.
        copies: Copies on each host, a core each.
    """

    title: str
    sim_s: float
    bytes: int
    learn_s: float
    copies: int = 8


CASES = (
    # PPO of Stable-Baselines3, minibatches of half a rollout: 15 us a step; with small ones
    # 173 us (5,766 steps/s on CartPole). Both are in docs/contributing/benchmarks.md.
    Case(
        "a slow simulator: 50 ms a step, 100 bytes; PPO with large minibatches", 0.05, 100, 15e-6
    ),
    Case("the same; PPO with small minibatches", 0.05, 100, 173e-6),
    Case("images: 50 ms a step, 28,224 bytes (84 x 84 x 4)", 0.05, 28_224, 173e-6),
    Case("a fast simulator: 0.1 ms a step, 100 bytes", 1e-4, 100, 15e-6),
)
HOSTS = (1, 2, 8, 25, 50, 100, 200)


@dataclass(frozen=True)
class Step:
    """One vectorised step, in seconds."""

    copies: int
    simulator: float
    network: float
    frames: float
    learner: float

    @property
    def whole(self) -> float:
        """All of it, with the learner's share of an update."""
        return self.simulator + self.network + self.frames + self.learner

    @property
    def limit(self) -> str:
        """What takes most of it."""
        parts = {
            "simulator": self.simulator,
            "network": self.network,
            "learner": self.frames + self.learner,
        }
        return max(parts, key=lambda name: parts[name])


def step(case: Case, hosts: int, costs: Costs = MEASURED) -> Step:
    """One step of all copies on so many hosts."""
    copies = hosts * case.copies
    sent = copies * case.bytes
    return Step(
        copies,
        case.sim_s,
        costs.round_trip_s + sent / costs.bytes_per_s,
        costs.step_s + hosts * costs.host_s + copies * costs.copy_s + sent * costs.byte_s,
        copies * case.learn_s,
    )


def here(case: Case) -> float:
    """Steps per second of one machine: the copies of one host, without a network."""
    return case.copies / (case.sim_s + case.copies * case.learn_s)


def learner_limit(case: Case, costs: Costs = MEASURED) -> int:
    """Hosts from which on the learner takes longer than simulator and network together."""
    hosts = 1
    while step(case, hosts, costs).limit != "learner" and hosts < 100_000:
        hosts += 1
    return hosts


def lines(costs: Costs = MEASURED) -> list[str]:
    """The tables."""
    found = []
    for case in CASES:
        alone = here(case)
        found += [case.title, f"  one machine without hosts: {alone:,.0f} steps/s"]
        found.append("  hosts  copies  step ms  learner ms   steps/s  of ideal  limit")
        for hosts in HOSTS:
            one = step(case, hosts, costs)
            rate = one.copies / one.whole
            own = (one.frames + one.learner) * 1e3
            ideal = rate / (one.copies / case.sim_s)
            found.append(
                f"  {hosts:5}  {one.copies:6}  {one.whole * 1e3:7.1f}  {own:10.2f}  "
                f"{rate:8,.0f}  {ideal:8.0%}  {one.limit}"
            )
        most = 1 / (
            case.learn_s
            + costs.copy_s
            + costs.host_s / case.copies
            + case.bytes * (costs.byte_s + 1 / costs.bytes_per_s)
        )
        found.append(
            f"  the learner is the limit from {learner_limit(case, costs):,} hosts on; "
            f"no number of hosts gives more than {most:,.0f} steps/s"
        )
        found.append("")
    return found[:-1]


def measure(rounds: int = 2000) -> tuple[float, float]:
    """Processor seconds of the learner for a pair of small frames, and for a byte, over TLS."""
    context, trusted = _contexts()
    listening = socket.create_server(("127.0.0.1", 0))
    small, large = 1 << 10, MIB
    times = {}
    for size, count in ((small, rounds), (large, rounds // 20)):
        thread = threading.Thread(target=_answer, args=(listening, context, size, count))
        thread.start()
        raw = socket.create_connection(listening.getsockname())
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with trusted.wrap_socket(raw) as learner:
            frame, room = bytes(size), memoryview(bytearray(size))
            began = time.thread_time()
            for _ in range(count):
                learner.sendall(frame)
                _fill(learner, room)
            times[size] = (time.thread_time() - began) / count
        thread.join()
    listening.close()
    byte_s = (times[large] - times[small]) / (2 * (large - small))
    return times[small] - 2 * small * byte_s, byte_s


def _answer(listening: socket.socket, context: ssl.SSLContext, size: int, count: int) -> None:
    raw, _ = listening.accept()
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(raw, server_side=True) as host:
        room = memoryview(bytearray(size))
        for _ in range(count):
            _fill(host, room)
            host.sendall(room)


def _fill(connection: ssl.SSLSocket, room: memoryview) -> None:
    got = 0
    while got < len(room):
        got += connection.recv_into(room[got:])


def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context with a certificate of their own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scale")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.touch(0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(path)
        client.check_hostname = False
    return server, client


def main() -> None:
    """Print the tables, or the constants."""
    if "--measure" in sys.argv:
        host_s, byte_s = measure()
        print(f"a small frame out and in: {host_s * 1e6:.1f} us of processor time")
        print(f"a byte: {byte_s * 1e9:.3f} ns")
        return
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
