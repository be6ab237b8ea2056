"""Protocols between drillyard and a simulator's process: lines over a socket, or HTTP.

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
import io
import json
import logging
import secrets
import socket
import time
from typing import Protocol

from drillyard.documents.json_types import JsonObject

HOST = "127.0.0.1"
LOOK_S = 0.1
"""Time between two checks of a process that has not connected yet."""
log = logging.getLogger("drillyard.simulator")


class Wire(Protocol):
    """A connection to a simulator."""

    port: int
    """Port of the loopback interface."""

    def meet(self, token: str, timeout_s: float) -> bool:
        """Waits briefly for the simulator; True once it is connected.

        Args:
            token: A secret that only the simulator knows.
            timeout_s: Longest time for a simulator that connects and then sends nothing.
        """

    def ask(self, message: JsonObject, timeout_s: float) -> bytes:
        """Sends a message, and returns the answer; empty if the connection was closed.

        Raises:
            TimeoutError: No answer in time.
            OSError: The connection is broken.
        """

    def close(self) -> bool:
        """Closes the connection; True if there was one, whose end the simulator notices."""


class Lines:
    """drillyard listens; one message a line."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(LOOK_S)
        self.port = int(self._listener.getsockname()[1])
        self._connection: socket.socket | None = None
        self._lines: io.BufferedReader | None = None

    def meet(self, token: str, timeout_s: float) -> bool:
        """See ``Wire.meet``: the simulator connects and sends the token."""
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

    def ask(self, message: JsonObject, timeout_s: float) -> bytes:
        """See ``Wire.ask``."""
        assert self._connection is not None and self._lines is not None
        self._connection.settimeout(timeout_s)
        self._connection.sendall(json.dumps(message).encode() + b"\n")
        line = self._lines.readline()
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
        """See ``Wire.meet``: the simulator listens and checks the token."""
        self._token = token
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError:
            time.sleep(LOOK_S)
            return False
        self._connection = connection
        return True

    def ask(self, message: JsonObject, timeout_s: float) -> bytes:
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
        except http.client.HTTPException as error:  # closed, or not HTTP
            raise ConnectionError(str(error)) from error
        return body if answer.status == 200 else b"HTTP status %d " % answer.status + body

    def close(self) -> bool:
        """See ``Wire.close``; a server does not end when its clients leave."""
        if self._connection is not None:
            self._connection.close()
        return False


WIRES: dict[str, type[Lines | Http]] = {"lines": Lines, "http": Http}
