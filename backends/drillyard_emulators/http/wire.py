"""HTTP/1.1 with keep-alive over any socket: requests and answers of the emulator's servers.

The path stays undecoded, because object names contain ``%2F``; header names are compared without
case; bodies are bytes. Each connection has a thread, so a long poll simply waits.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote, urlsplit

from drillyard.documents.json_types import JsonView
from drillyard_emulators.http.fields import Document

_BODY_LIMIT = 8 << 30
_NO_SERVER = socketserver.BaseServer(("", 0), socketserver.BaseRequestHandler)
"""What a handler of a single connection gets in place of its server."""


class ConnectionLost(Exception):
    """The answer never arrives: the connection is closed instead."""


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        method: In capitals.
        host: As the client addressed it, without port.
        path: Undecoded, without query.
        query: Decoded; the last of repeated names wins, as it does at Google.
        query_text: As it was sent.
        headers: With names in lower case.
        body: Decoded from chunks; never from a content encoding.
        caller: Who sent it, when a token says so (filled in by the service).
    """

    method: str
    host: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    query_text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    caller: str | None = None

    @property
    def url(self) -> str:
        """Host, path and query, for logs and for the rules of faults."""
        return self.host + self.path + (f"?{self.query_text}" if self.query_text else "")

    @property
    def origin(self) -> str:
        """Where the client thinks it is: TLS under a real name, plain on loopback."""
        scheme = "http" if self.host in ("127.0.0.1", "localhost") else "https"
        return f"{scheme}://{self.headers.get('host', self.host)}"

    def json(self) -> Document:
        """The body as JSON; an empty one is an empty object."""
        document: Document = json.loads(self.body) if self.body.strip() else {}
        return document


@dataclass(slots=True)
class Response:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: JsonView, status: int = 200) -> Response:
        """A JSON document."""
        return cls(
            status,
            json.dumps(document, separators=(",", ":")).encode(),
            {"Content-Type": "application/json; charset=UTF-8"},
        )

    def json(self) -> JsonView:
        """The body as JSON, or None if it is not JSON."""
        if "json" not in self.headers.get("Content-Type", ""):
            return None
        try:
            document: JsonView = json.loads(self.body) if self.body else None
            return document
        except ValueError:  # an object of the bucket whose declared type is wrong
            return None


class Refusal(Exception):
    """A service refuses a request.

    Args:
        status: HTTP status.
        reason: Google's reason: ``conflict``, ``notFound``, ``rateLimitExceeded``.
        message: For people.
    """

    def __init__(self, status: int, reason: str, message: str, **extra: JsonView) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.extra = status, reason, message, extra

    def document(self) -> Document:
        """As Google's JSON APIs write it."""
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        error = {"code": self.status, "message": self.message, "errors": [entry], **self.extra}
        return {"error": error}

    def response(self) -> Response:
        """The answer."""
        return Response.of(self.document(), self.status)


App = Callable[[Request], Response]


class Connection(http.server.BaseHTTPRequestHandler):
    """Serves one connection until its client closes it."""

    protocol_version = "HTTP/1.1"
    server_version = "drillyard-emulator"
    sys_version = ""
    app: App
    host: str | None = None
    """The host of a tunnel; None reads the ``Host`` header."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def setup(self) -> None:
        """Sends small writes at once."""
        with contextlib.suppress(OSError):
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        super().setup()

    def handle(self) -> None:
        """A client that disconnects is not an error."""
        with contextlib.suppress(
            ConnectionError, BrokenPipeError, TimeoutError, ValueError, OSError
        ):
            super().handle()

    def _serve(self) -> None:
        quick_ack(self.request)
        try:
            answer = self.app(self._read())
        except ConnectionLost:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)
            return
        self._answer(answer)

    def _read(self) -> Request:
        parts = urlsplit(self.path)
        headers = {k.lower(): v for k, v in self.headers.items()}
        host = self.host or parts.hostname or headers.get("host", "").partition(":")[0]
        return Request(
            self.command,
            host,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            parts.query,
            headers,
            self._body(headers),
        )

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        length = int(headers.get("content-length") or 0)
        return self.rfile.read(min(length, _BODY_LIMIT)) if length else b""

    def _answer(self, answer: Response) -> None:
        try:
            reason = http.HTTPStatus(answer.status).phrase
        except ValueError:
            reason = ""
        lines = [f"HTTP/1.1 {answer.status} {reason}"]
        headers = {"Date": formatdate(usegmt=True), **answer.headers}
        if answer.status not in (204, 304):
            headers.setdefault("Content-Length", str(len(answer.body)))
        if headers.get("Connection") == "close":
            self.close_connection = True
        if self.close_connection:
            headers["Connection"] = "close"
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        # One write, so that a small answer is one packet.
        self.wfile.write(head + (b"" if self.command == "HEAD" else answer.body))

    def log_message(self, format: str, *args: object) -> None:
        """The emulator keeps its own log."""


def quick_ack(connection: socket.socket) -> None:
    """Acknowledge at once.

    urllib3 leaves Nagle's algorithm on towards proxies: each small upload would wait 44 ms.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, True)


def converse(connection: socket.socket, app: App, host: str | None = None) -> None:
    """Serve one connection to its end."""

    class Here(Connection):
        def __init__(self) -> None:
            self.host = host
            self.app = app
            super().__init__(connection, ("", 0), _NO_SERVER)

    Here()


class Listener:
    """A port on loopback; each connection is served in a thread of its own.

    Args:
        serve: Called with the accepted socket; it may keep it as long as it likes.
        door: A socket that listens elsewhere; None for a free port on loopback.
    """

    def __init__(
        self, serve: Callable[[socket.socket], None], door: socket.socket | None = None
    ) -> None:
        self._serve = serve
        self._socket = door or socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True, name=f"port {self.port}")
        self._thread.start()

    @classmethod
    def of(cls, app: App) -> Listener:
        """A plain HTTP server."""
        return cls(lambda connection: converse(connection, app))

    @property
    def address(self) -> str:
        """``127.0.0.1:port``."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening and cut what is open."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(2.0)

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.close()


def parts_of(path: str) -> list[str]:
    """The decoded parts of an undecoded path."""
    return [unquote(part) for part in path.strip("/").split("/")]
