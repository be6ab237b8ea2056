"""A server on this machine whose answers a test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Request(BaseHTTPRequestHandler):
    """What was asked: ``path``, ``headers`` and ``body``."""

    body: bytes


@contextmanager
def answering(
    answer: Callable[[Request], tuple[int, bytes]], at: float | None = None, **headers: str
) -> Iterator[str]:
    """The address of a server whose answers have this status, these words and this time."""

    class Handler(Request):
        def do_GET(self) -> None:
            self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, words = answer(self)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(words)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(words)

        do_POST = do_HEAD = do_CONNECT = do_GET

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(at, usegmt=True)

        def log_message(self, format: str, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
