"""How drillyard and a simulator's process speak: lines over a socket, or HTTP.

| protocol | who listens | message                                          | answer                      |
|----------|-------------|--------------------------------------------------|-----------------------------|
| lines    | drillyard   | a JSON object a line                             | a JSON object a line        |
| http     | simulator   | ``POST /``, a JSON object, ``Authorization: Bearer`` with the token | status 200, a JSON object |

Where the simulator connects, no two copies can want the same port; where it listens, the system
chooses a port that is free at that moment.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import secrets
import socket
import time
from typing import Any, Protocol

HOST = "127.0.0.1"
LOOK_S = 0.1
"""Between two looks at a process that has not connected yet."""
log = logging.getLogger("drillyard.simulator")


class Wire(Protocol):
    """A connection that is to be made, or made."""

    port: int
    """Of the loopback interface."""

    def meet(self, token: str, timeout_s: float) -> bool:
        """Look for the simulator for a moment; True once it is there.

        Args:
            token: That it, and nobody else, knows.
            timeout_s: For one that comes and then says nothing.
        """

    def ask(self, message: dict[str, Any], timeout_s: float) -> bytes:
        """Say something; what it answered, empty where it hung up.

        Raises:
            TimeoutError: No answer in time.
            OSError: The connection is broken.
        """

    def close(self) -> bool:
        """Hang up; True where there was a connection, whose end the simulator notices."""


class Lines:
    """drillyard listens; one message a line."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(LOOK_S)
        self.port = int(self._listener.getsockname()[1])
        self._connection: socket.socket | None = None
        self._lines: Any = None

    def meet(self, token: str, timeout_s: float) -> bool:
        """See ``Wire.meet``: it comes, and says the token."""
        with contextlib.suppress(TimeoutError):
            self._greet(self._listener.accept()[0], token, timeout_s)
        return self._connection is not None

    def _greet(self, connection: socket.socket, token: str, timeout_s: float) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout_s)
        lines = connection.makefile("rb")
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # Any user of this machine can connect to its loopback interface.
            if secrets.compare_digest(str(json.loads(lines.readline())["token"]), token):
                self._connection, self._lines = connection, lines
                return
        log.warning("port %d: a connection without the token was closed", self.port)
        lines.close()
        connection.close()

    def ask(self, message: dict[str, Any], timeout_s: float) -> bytes:
        """See ``Wire.ask``."""
        assert self._connection is not None
        self._connection.settimeout(timeout_s)
        self._connection.sendall(json.dumps(message).encode() + b"\n")
        line: bytes = self._lines.readline()
        return line if line.endswith(b"\n") else b""

    def close(self) -> bool:
        """See ``Wire.close``."""
        for part in (self._lines, self._connection, self._listener):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.close()
        return self._connection is not None


class Http:
    """The simulator listens; one message a request, over a connection that is kept."""

    def __init__(self) -> None:
        with socket.create_server((HOST, 0)) as free:
            self.port = int(free.getsockname()[1])
        self._connection: http.client.HTTPConnection | None = None
        self._token = ""

    def meet(self, token: str, timeout_s: float) -> bool:
        """See ``Wire.meet``: it listens, and asks us for the token."""
        self._token = token
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError:
            time.sleep(LOOK_S)
            return False
        self._connection = connection
        return True

    def ask(self, message: dict[str, Any], timeout_s: float) -> bytes:
        """See ``Wire.ask``."""
        connection = self._connection
        assert connection is not None
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        try:
            connection.request("POST", "/", json.dumps(message).encode(), head)
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:  # hung up, or no HTTP
            raise ConnectionError(str(error)) from error
        return body if answer.status == 200 else b"HTTP status %d " % answer.status + body

    def close(self) -> bool:
        """See ``Wire.close``; a server does not end for want of clients."""
        if self._connection is not None:
            self._connection.close()
        return False


WIRES: dict[str, type[Lines | Http]] = {"lines": Lines, "http": Http}
