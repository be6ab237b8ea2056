"""The network of bare machines: emulated services, the metadata address, nothing behind them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping

from drillyard.errors import InfrastructureError
from drillyard.system.operating_system import OWN_SESSION
from drillyard_emulators.http.wire import App, Listener, Refusal, Request, Response, converse

METADATA = "169.254.169.254"
"""Google's metadata server, which also resolves names (``names.py``)."""
GOOGLE = "199.36.153.8"
"""One of Google's addresses for machines without a public address (private.googleapis.com); the
emulated services of Azure listen there, too."""
_MAKE = """set -e
ip link set lo up
ip address add {metadata}/32 dev lo
ip address add {google}/32 dev lo
ip link add fabric type bridge
ip address add 10.132.0.1/20 dev fabric
ip link set fabric up
exec "$PYTHON" -m drillyard_emulators.bare.names {metadata} {google} {hosts}"""
_CLONE_NEWNET = 0x40000000


class Fabric:
    """A network of its own, in which the services of one emulated cloud listen.

    It forwards nothing, so that a packet to any other address is lost without an answer, as on a
    machine without a public address. It ends with this process, or with the emulator's guard.

    Args:
        env: Environment of the process that holds it: the emulator's mark.
        hosts: Names of the emulated services.

    Raises:
        InfrastructureError: This host cannot make it.
    """

    def __init__(self, env: dict[str, str], hosts: Iterable[str]) -> None:
        script = _MAKE.format(metadata=METADATA, google=GOOGLE, hosts=" ".join(hosts))
        self._holder = subprocess.Popen(
            ["unshare", "--net", "bash", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, **env},
            **OWN_SESSION,
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().decode().strip()
        if said != "ready":
            self.close()
            raise InfrastructureError(f"the network of bare machines cannot be made: {said}")
        self._machines = 0

    @property
    def pid(self) -> int:
        """A process in this network."""
        return self._holder.pid

    def next_link(self) -> tuple[str, str]:
        """Returns the name of the link to one more machine, and the machine's address."""
        self._machines += 1
        high, low = divmod(self._machines + 1, 256)
        return f"machine{self._machines}", f"10.132.{high}.{low}"

    def listen(self, address: str, port: int) -> socket.socket:
        """Returns a socket that listens in this network."""
        doors: list[socket.socket] = []

        def work() -> None:  # a thread that has entered another network never comes back
            with open(f"/proc/{self.pid}/ns/net", "rb") as network:
                entered = ctypes.CDLL(None).setns(network.fileno(), _CLONE_NEWNET) == 0
            if entered:
                doors.append(socket.create_server((address, port), backlog=512))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if not doors:
            raise InfrastructureError("the network of bare machines cannot be entered")
        return doors[0]

    def serve(self, tls: ssl.SSLContext, apps: Mapping[str, App]) -> Listener:
        """Serves under the names of the services, encrypted, to machines.

        Args:
            tls: Set-up with a certificate for these names.
            apps: Host name to service.
        """

        def answer(request: Request) -> Response:
            app = apps.get(request.host)
            return app(request) if app else Refusal(404, "notFound", "no such host").response()

        def encrypted(connection: socket.socket) -> None:
            with tls.wrap_socket(connection, server_side=True) as inside:
                converse(inside, answer)

        return Listener(encrypted, self.listen(GOOGLE, 443))

    def silence_names(self, silent: bool) -> None:
        """Lets the resolver answer nothing, or answer again."""
        assert self._holder.stdin is not None
        self._holder.stdin.write(b"silent\n" if silent else b"speak\n")
        self._holder.stdin.flush()

    def cut_google(self) -> None:
        """Takes the way to Google's services away: packets to them are lost."""
        command = ["ip", "address", "del", f"{GOOGLE}/32", "dev", "lo"]
        subprocess.run(["nsenter", "--target", str(self.pid), "--net", *command], check=True)

    def close(self) -> None:
        """Ends it."""
        for pipe in (self._holder.stdin, self._holder.stdout):
            assert pipe is not None
            pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._holder.wait(5.0)
