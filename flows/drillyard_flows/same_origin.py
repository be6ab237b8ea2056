"""Refuses requests that pages of other sites send to the embedded Prefect server.

That server asks for no password, so a page in the user's browser could use it: browsers send a
POST request without a content type to any address, and Prefect takes its body for JSON
(``prefect/server/api/server.py``, 3.8); and no rule of browsers keeps a page from reading a
WebSocket of another site, such as ``/api/events/out``. In both cases the browser names the page's
origin, which a page cannot change. Programs send no ``Origin``.

Source of the header: https://fetch.spec.whatwg.org/#origin-header, RFC 6455 section 10.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_ANSWER = b'{"detail": "Pages of other sites cannot use this server."}'


class SameOrigin:
    """ASGI middleware that refuses what a page of another origin sends.

    Args:
        app: The application behind it.
        origins: Origins of the server's own pages.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 403; a WebSocket is refused before it opens."""
        headers = scope.get("headers", ())
        sent = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if all(origin in self._origins for origin in sent):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            kind = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 403, "headers": kind})
            await send({"type": "http.response.body", "body": _ANSWER})
