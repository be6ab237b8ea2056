"""The only door of a rehearsal: a CONNECT proxy that refuses every host that is not emulated."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from drillyard_emulators.http.wire import App, Listener, converse, quick_ack


class Proxy:
    """Maps real host names to emulated services; every other host gets 502.

    A tunnel to a service of this process ends here: TLS is terminated on the very socket of the
    tunnel, which saves a second copy of every byte.

    Args:
        tls: Set-up with a certificate for all ``apps``.
        apps: Host name to service; ``*.domain`` for every host directly below it.
    """

    def __init__(self, tls: ssl.SSLContext, apps: dict[str, App]) -> None:
        self._tls, self._apps = tls, dict(apps)
        self._lock = threading.Lock()
        self.asked: dict[str, int] = {}
        """Every host a client wanted, and how often; refused ones too."""
        self._listener = Listener(self._serve)

    @property
    def url(self) -> str:
        """For ``HTTPS_PROXY``."""
        return f"http://{self._listener.address}"

    @property
    def refused(self) -> list[str]:
        """Hosts that a client wanted and did not get."""
        with self._lock:
            return sorted(host for host in self.asked if self._app(host) is None)

    def close(self) -> None:
        """Cut every tunnel."""
        self._listener.close()

    def _app(self, host: str) -> App | None:
        return self._apps.get(host) or self._apps.get(f"*.{host.partition('.')[2]}")

    def _serve(self, connection: socket.socket) -> None:
        quick_ack(connection)
        connection.settimeout(60)
        head = _read_head(connection)
        connection.settimeout(None)
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
        if len(words) != 3:
            return
        method, target = words[0], words[1]
        host = target.partition("://")[2] if "://" in target else target
        host = host.partition("/")[0].partition(":")[0].lower()
        with self._lock:
            self.asked[host] = self.asked.get(host, 0) + 1
        app = self._app(host)
        if method != "CONNECT" or app is None:
            # Fail closed: nothing leaves this machine during a rehearsal.
            text = f"{host} is not part of this emulated cloud\n".encode()
            connection.sendall(
                b"HTTP/1.1 502 Not emulated\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                + f"Content-Length: {len(text)}\r\n\r\n".encode()
                + text
            )
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            self._tls.wrap_socket(connection, server_side=True) as inside,
        ):
            converse(inside, app, host)


def _read_head(connection: socket.socket) -> bytes:
    """The request's head; a client sends nothing more before the answer."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 1 << 16:
        data = connection.recv(1 << 14)
        if not data:
            break
        head += data
    return head
