"""Forwards alerts to services that Prefect cannot reach itself: mail servers and many chats.

It is a webhook on loopback, protected by a token, that Prefect's automations call. Addresses have
the format of Apprise (``mailto://``, ``mailtos://``, …), the library that Prefect uses.

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


def recipients(address: str) -> Apprise:
    """Returns the recipients of alerts.

    Args:
        address: One or more Apprise addresses, separated by spaces.

    Raises:
        ConfigError: Apprise does not know such an address.
    """
    from apprise import Apprise

    services = Apprise()
    for part in address.split():
        if not services.add(part):
            raise ConfigError(
                "is not an address that Apprise supports",
                field="--mail",
                value="***",
                allowed="mailto://user:password@server?from=me@server&to=you@server, env:NAME "
                "or file:PATH",
                hint="--mail file:~/.mail-address",
            )
    return services


def handler(to: Apprise, token: str) -> type[http.server.BaseHTTPRequestHandler]:
    """Returns a request handler that answers 204 when an alert was sent, 502 when it was not.

    Args:
        to: The recipients.
        token: The only path that accepts alerts.
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
                alert = json.loads(self.rfile.read(length))
                subject, text = str(alert["subject"]), str(alert["text"])
            except (ValueError, TypeError, KeyError):
                self._answer(400)
                return
            done = to.notify(title=subject, body=text, body_format="text")
            self._answer(204 if done else 502)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing, because the path is a secret."""

    return Relay


def main() -> None:
    """Serves until the process is terminated."""
    to = recipients(os.environ[TO])
    address = ("127.0.0.1", int(sys.argv[1]))
    with http.server.ThreadingHTTPServer(address, handler(to, os.environ[TOKEN])) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
