"""Passes alerts on to where Prefect itself cannot send them: a mail server, a hundred chats.

Prefect's automations tell a webhook; this is one, on loopback, for whoever knows its token. The
addresses are Apprise's (``mailto://``, ``mailtos://``, …), the library that Prefect itself sends
with.

    export DRILLYARD_RELAY_TO=mailto://… DRILLYARD_RELAY_TOKEN=…
    python -m drillyard_flows.local_stack.relay 4201
"""

from __future__ import annotations

import http.server
import json
import os
import secrets
import sys
from typing import TYPE_CHECKING

from drillyard.errors import ConfigError

if TYPE_CHECKING:
    from apprise import Apprise

TO, TOKEN = "DRILLYARD_RELAY_TO", "DRILLYARD_RELAY_TOKEN"
MOST_BYTES = 1 << 20


def addressee(address: str) -> Apprise:
    """Who is told.

    Args:
        address: As Apprise writes it; several with blanks between them.

    Raises:
        ConfigError: Apprise does not know such an address.
    """
    from apprise import Apprise

    found = Apprise()
    for one in address.split():
        if not found.add(one):
            raise ConfigError(
                "is no address that Apprise knows",
                field="--mail",
                value="***",
                allowed="mailto://user:password@server?from=me@server&to=you@server, env:NAME "
                "or file:PATH",
                hint="--mail file:~/.mail-address",
            )
    return found


def handler(to: Apprise, token: str) -> type[http.server.BaseHTTPRequestHandler]:
    """What answers requests: 204 once it was passed on, 502 when nobody took it.

    Args:
        to: Who is told.
        token: The only path at which it listens.
    """

    class Relay(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(204 if self.path == "/health" else 404)

        def do_POST(self) -> None:
            if not secrets.compare_digest(self.path, f"/{token}"):
                self._answer(404)
                return
            try:
                length = int(self.headers["Content-Length"])
                if not 0 < length <= MOST_BYTES:
                    raise ValueError(f"{length} bytes")
                told = json.loads(self.rfile.read(length))
                subject, text = str(told["subject"]), str(told["text"])
            except (ValueError, TypeError, KeyError):
                self._answer(400)
                return
            done = to.notify(title=subject, body=text, body_format="text")
            self._answer(204 if done else 502)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Its path is a secret."""

    return Relay


def main() -> None:
    """Serve until the process is ended."""
    to = addressee(os.environ[TO])
    address = ("127.0.0.1", int(sys.argv[1]))
    with http.server.ThreadingHTTPServer(address, handler(to, os.environ[TOKEN])) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
