"""Whose requests the embedded server answers; tests/browser tries it with a browser."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from drillyard_flows.same_origin import SameOrigin

OWN = "http://127.0.0.1:4711"


async def answer(_: object) -> PlainTextResponse:
    return PlainTextResponse("done")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("an event")
    await socket.close()


@pytest.fixture
def client():
    app = Starlette(
        routes=[Route("/", answer, methods=["GET", "POST"]), WebSocketRoute("/out", talk)]
    )
    app.add_middleware(SameOrigin, origins=frozenset({OWN}))
    return TestClient(app, OWN)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1",  # another port is another program
        "http://127.0.0.1:4712",
        "https://127.0.0.1:4711",
        "http://127.0.0.1:4711.evil.example",
        "null",  # a page in a sandbox, or from a file
        "",
    ],
)
def test_pages_of_others_are_refused(client, origin):
    for method in ("GET", "POST"):
        assert client.request(method, "/", headers={"origin": origin}).status_code == 403
    twice = [("origin", OWN), ("origin", origin)]
    assert client.post("/", headers=twice).status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/out", headers=dict(twice)):
        pass


def test_programs_and_its_own_pages_are_served(client):
    for headers in ({}, {"origin": OWN}):
        assert client.post("/", headers=headers).text == "done"
        with client.websocket_connect("/out", headers=headers) as socket:
            assert socket.receive_text() == "an event"
