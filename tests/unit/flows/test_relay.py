"""The relay of ``drillyard up --mail``: what an automation tells it is in a mailbox."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drillyard_flows.local_stack.relay import handler, recipients
from tests.helpers.smtp import mail_server, text

pytestmark = pytest.mark.heavy


@contextmanager
def relay(address: str) -> Iterator[str]:
    """Its URL, without the token."""
    kind = handler(recipients(address), "token")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def post(url: str, document: object) -> int:
    request = urllib.request.Request(url, json.dumps(document).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_an_alert_becomes_a_mail():
    with mail_server() as box, relay(box.url) as url:
        told = {"subject": "drillyard: cstr-ppo Failed", "text": "a < b\nthe pump is dry ü"}
        assert post(f"{url}/token", told) == 204
        (mail,) = box.mails
        assert mail["Subject"] == told["subject"]
        assert "ops@example.org" in mail["To"] and "drillyard@example.org" in mail["From"]
        assert text(mail).splitlines()[:2] == ["a < b", "the pump is dry ü"]
        for path in ("", "/", "/tokens"):
            assert post(f"{url}{path}", told) == 404
        for wrong in ([], {}, "text", {"subject": "s"}):
            assert post(f"{url}/token", wrong) == 400
        assert len(box.mails) == 1


def test_a_mail_server_that_is_away_is_an_error_that_prefect_shows(capfd):
    with mail_server() as box:
        address = box.url
    with relay(address) as url:
        assert post(f"{url}/token", {"subject": "s", "text": "t"}) == 502
