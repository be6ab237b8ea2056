"""Serves the live pages of a store on the loopback address, with Python's own HTTP server.

It asks for no password, so it answers GET alone, and only requests that call it by a name of the
loopback address and come from its own pages or from the user. A page of another site may lead to
it, but cannot read it (https://www.w3.org/TR/fetch-metadata/, DNS rebinding: ``system.loopback``).
"""

from __future__ import annotations

import errno
import json
import logging
import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Self
from urllib.parse import parse_qs, quote, urlsplit

from drillyard.errors import DrillyardError, NotFound, misused
from drillyard.mailbox import Mailbox, Store
from drillyard.mailbox.store import ObjectMissing
from drillyard.report.live import page
from drillyard.report.live.watched import Watched
from drillyard.report.templates import rendered, text
from drillyard.runs.locate import experiments
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loopback import is_loopback, name_in
from drillyard.system.redaction import redact

HOST = "127.0.0.1"
POLL_S = 0.1
"""How long ``close`` waits at most; the default of half a second is that much of each command."""
HTML, JSON = "text/html; charset=utf-8", "application/json"
_KINDS = {
    "html": HTML,
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv; charset=utf-8",
}
_NAME = r"[A-Za-z0-9._=-]+"
_PAGE = re.compile(rf"/watch/(?P<name>{_NAME})/(?P<rest>|state|report/(?P<file>{_NAME}))\Z")
_OWN = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# A report comes from the store: a script in it, if there is one, does not run.
_READ = f"{_OWN}; style-src 'unsafe-inline'; img-src data: 'self'"
_LIVE = f"{_READ}; script-src 'self'; connect-src 'self'"
log = logging.getLogger(__name__)


class LivePages:
    """The pages of every experiment of a store; a context manager that ends the server.

    Args:
        store: The store.
        port: The port; 0: a free one.
        clock: For the pauses between two looks.

    Raises:
        ConfigError: The port is taken, or not allowed.
    """

    def __init__(self, store: Store, port: int = 0, clock: Clock = SYSTEM) -> None:
        self._store = store
        self._clock = clock
        self._watched: dict[str, Watched] = {}
        self._lock = threading.Lock()
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is taken" if error.errno == errno.EADDRINUSE else "needs another user's rights"
            hint = "leave --port out: then a free port is chosen"
            message = f"port {port} of this machine {why}"
            raise misused(message, "--port", port, "a free port, or 0", hint) from error
        self._server.answer = self._answer
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="drillyard-live", daemon=True
        )
        self._thread.start()

    def url(self, experiment: str) -> str:
        """Address of the page of an experiment."""
        return f"http://{HOST}:{self._server.server_address[1]}/watch/{quote(experiment)}/"

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- answers ------------------------------------------------------------------------------

    def _answer(self, path: str, query: dict[str, list[str]]) -> _Answer:
        if path == "/live.js":
            return _Answer("text/javascript; charset=utf-8", text("live.js").encode())
        if path == "/":
            return self._index()
        match = _PAGE.match(path)
        if match is None:
            return _refused(HTTPStatus.NOT_FOUND, "there is no such page")
        name, rest, file = match["name"], match["rest"], match["file"]
        if file is not None:
            return self._report(name, file)
        watched = self._of(name)
        if rest == "state":
            state = watched.state(query["log"][-1] if "log" in query else None)
            return _Answer(JSON, json.dumps(state, allow_nan=False).encode())
        return _Answer(HTML, page.shell(name, self._store.url).encode(), _LIVE)

    def _of(self, name: str) -> Watched:
        with self._lock:
            if name not in self._watched:
                if self._store.stat(f"{name}/experiment.json") is None:
                    raise NotFound(f"no experiment {name!r} in {self._store.url}")
                self._watched[name] = Watched(Mailbox(self._store, name), self._clock)
            return self._watched[name]

    def _index(self) -> _Answer:
        names = experiments(self._store)
        page = rendered("live_index.html.j2", names=names, store=self._store.url)
        return _Answer(HTML, page.encode(), _READ)

    def _report(self, name: str, file: str) -> _Answer:
        kind = _KINDS.get(file.rsplit(".", 1)[-1])
        if kind is None:
            return _refused(HTTPStatus.NOT_FOUND, "a report has no such file")
        return _Answer(kind, self._store.get(f"{name}/report/{file}"), _READ)


class _Answer:
    def __init__(
        self, kind: str, body: bytes, policy: str = _OWN, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.kind, self.body, self.policy, self.status = kind, body, policy, status


def _refused(status: HTTPStatus, why: str) -> _Answer:
    return _Answer("text/plain; charset=utf-8", f"{redact(why)}\n".encode(), status=status)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Callable[[str, dict[str, list[str]]], _Answer]

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a browser went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server_version = "drillyard"
    sys_version = ""
    timeout: ClassVar[float] = 60.0
    server: _Server

    def do_GET(self) -> None:
        """Answers, or refuses what may come from another site."""
        self._send(self._foreign() or self._found())

    def do_HEAD(self) -> None:
        """Answers like a GET, without the body."""
        self.do_GET()

    def _foreign(self) -> _Answer | None:
        """A refusal of a request that another site may have caused; None: it is ours."""
        hosts = self.headers.get_all("host") or [""]
        if len(hosts) != 1 or not is_loopback(name_in(hosts[0])):
            return _refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server is not called {hosts[0][:100]!r}: open http://{HOST}",
            )
        origins = self.headers.get_all("origin") or []
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return _refused(HTTPStatus.FORBIDDEN, "pages of other sites cannot use this server")
        site = self.headers.get("sec-fetch-site", "none")
        followed = (
            self.headers.get("sec-fetch-mode") == "navigate"
            and self.headers.get("sec-fetch-dest") == "document"
        )
        if site not in ("none", "same-origin") and not followed:
            return _refused(HTTPStatus.FORBIDDEN, "pages of other sites cannot use this server")
        return None

    def _found(self) -> _Answer:
        target = urlsplit(self.path)
        try:
            return self.server.answer(target.path, parse_qs(target.query))
        except (NotFound, ObjectMissing) as error:
            why = error.message if isinstance(error, NotFound) else "there is no such file"
            return _refused(HTTPStatus.NOT_FOUND, why)
        except DrillyardError as error:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception:
            log.exception("the live page failed")
            return _refused(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug in drillyard; see its output")

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", answer.policy)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps requests out of the output."""
        log.debug(format, *args)
