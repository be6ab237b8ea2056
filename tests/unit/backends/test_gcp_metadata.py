"""What a machine of Google Cloud asks its metadata server."""

from __future__ import annotations

import http.server
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from drillyard_backends.gcp.metadata import Metadata
from tests.helpers.patience import PATIENCE_S

pytestmark = pytest.mark.heavy


class Server(http.server.ThreadingHTTPServer):
    """A machine that is taken away between two questions: nobody is waiting at that moment."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, list[str]]] = []
        self.value, self.closing = "FALSE", threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(query)
        etag = {"FALSE": "a", "TRUE": "b"}[self.server.value]
        if "wait_for_change" in query and query.get("last_etag") in (None, [etag]):
            self.server.closing.wait()  # nothing changes any more
        body = self.server.value.encode()
        self.send_response(200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if sum("wait_for_change" not in one for one in self.server.asked) == 2:
            self.server.value = "TRUE"

    def log_message(self, format: str, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch):
    with Server() as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{one.server_port}")
        yield one
        one.closing.set()
        one.shutdown()


def test_a_preemption_between_two_questions_is_seen_at_once(server):
    """G-D16: without the last ETag the server waits for the next change, which never comes."""
    told = threading.Event()
    Metadata().when_preempted(told.set)
    assert told.wait(PATIENCE_S), server.asked
    assert server.asked[-1]["last_etag"] == ["a"]
