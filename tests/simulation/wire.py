"""The network below the cloud libraries: requests go to services of this process, in virtual time.

Everything above ``requests.adapters.HTTPAdapter.send`` is the real client: its retries, its
translation of errors, its pages.
"""

from __future__ import annotations

import io
import json
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
import urllib3

from drillyard_emulators.http.wire import Refusal, Request, Response
from tests.simulation.patches import world
from tests.simulation.world import EPOCH

READS = ("GET", "HEAD")
ASKS = ("/listManagedInstances", "/wait", "/listErrors")
"""Posts that change nothing."""


class Unavailable(Exception):
    """The service refuses for a moment."""


def send(_adapter: object, asked: requests.PreparedRequest, **_: Any) -> requests.Response:
    """In place of ``HTTPAdapter.send``."""
    now = world()
    url = urlsplit(asked.url or "")
    body = asked.body or b""
    request = Request(
        method=asked.method or "GET",
        host=url.hostname or "",
        path=url.path,
        query=dict(parse_qsl(url.query, keep_blank_values=True)),
        query_text=url.query,
        headers={k.lower(): str(v) for k, v in asked.headers.items()},
        body=body.encode() if isinstance(body, str) else bytes(body),
        caller=now.cloud.caller(now.current.process),
    )
    path = request.path.partition("/projects/")[2] or request.path.partition("/workspaces/")[2]
    path = path or request.path
    reads = request.method in READS or path.endswith(ASKS)
    try:
        answer = now.effect(
            "cloud",
            f"{request.method} {path}",
            lambda: _answered(request),
            latency_s=(1.0 if path.endswith("/wait") else 0.2) * (0.5 + now.random.random()),
            changes=not reads,
            fail=lambda why: (
                Unavailable(why)
                if why == "503"
                else requests.exceptions.ConnectionError(f"simulated network: {why}")
            ),
        )
    except Unavailable:
        status, reason = now.random.choice(now.cloud.refusals)
        refusal = Refusal(status, reason, "simulated service: try again")
        answer = Response.of(refusal.document(), status)
    return _response(asked, answer)


def _answered(request: Request) -> Response:
    try:
        answer: Response = world().cloud.app(request)
    except Refusal as refusal:
        answer = refusal.response()
    return answer


def _response(asked: requests.PreparedRequest, answer: Response) -> requests.Response:
    made = requests.Response()
    made.status_code = answer.status
    made.headers.update({"Date": formatdate(EPOCH + world().time, usegmt=True), **answer.headers})
    made._content = answer.body
    # azure-core reads the raw answer.
    made.raw = urllib3.HTTPResponse(io.BytesIO(answer.body), preload_content=False)
    made.url, made.request, made.encoding = asked.url or "", asked, "utf-8"
    made.reason = "OK" if answer.status < 400 else "simulated"
    return made


def not_found(request: Request) -> Response:
    """The answer of a host that the simulation has nothing for."""
    return Response(404, json.dumps({"error": {"code": 404, "message": request.path}}).encode())
