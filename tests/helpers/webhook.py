"""A webhook on this machine that keeps what it is told."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Webhook:
    """What was received.

    Attributes:
        url: Where it listens.
        told: The documents, in order.
        told_at: When each came, in seconds since the epoch.
        answers: Status of the next answers; 200 after the last.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/done"
        self.told: list[dict[str, Any]] = []
        self.told_at: list[float] = []
        self.answers: list[int] = []


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A receiver, while the context lasts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = hook.answers.pop(0) if hook.answers else 200
            if status == 200:
                hook.told_at.append(time.time())
                hook.told.append(json.loads(body))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", hook.url)
            self.end_headers()

        def log_message(self, format: str, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook = Webhook(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hook
        server.shutdown()
