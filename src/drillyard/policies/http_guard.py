"""What a served policy refuses before it looks at a request: foreign names, large bodies."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drillyard.system.loopback import is_loopback, name_in


class Guard:
    """ASGI middleware that refuses a request by its header, or once its body is too large.

    Args:
        app: The application.
        names: Names that ``Host`` may have beside those of the loopback; None: every name.
        max_bytes: Length of the longest body.
        longest: What fits into it, for the message.
        refused: Called at each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Collection[str] | None,
        max_bytes: int,
        longest: str,
        refused: Callable[[], None],
    ) -> None:
        self._app, self._max, self._refused = app, max_bytes, refused
        self._names = None if names is None else {name.lower() for name in names}
        self._too_large = f"a request has at most {max_bytes:,} bytes, enough for {longest}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = next((h for h in headers.getlist("host") if not self._accepts(h)), None)
        if host is not None:
            await self._answer(
                421,
                f"this server is not called {host[:100]!r}: start it with --host NAME, or let "
                "the proxy before it send `Host: localhost`",
                (scope, receive, send),
            )
            return
        length = headers.get("content-length", "")
        body = None
        if not (length.isdecimal() and int(length[:20]) > self._max):
            body = await self._read(receive)
        if body is None:
            await self._answer(413, self._too_large, (scope, receive, send))
            return
        await self._app(scope, _again(body, receive), send)

    def _accepts(self, host: str) -> bool:
        if self._names is None:
            return True
        name = name_in(host)
        return is_loopback(name) or name in self._names

    async def _read(self, receive: Receive) -> bytes | None:
        """Returns the body, or None as soon as it is too long."""
        parts: list[bytes] = []
        left = self._max
        while True:
            message = await receive()
            part = message.get("body", b"")
            left -= len(part)
            if left < 0:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _answer(self, status: int, text: str, call: tuple[Scope, Receive, Send]) -> None:
        self._refused()
        # What is left of the body is not read: nothing can follow on this connection.
        answer = JSONResponse({"detail": text}, status, {"connection": "close"})
        await answer(*call)


def _again(body: bytes, receive: Receive) -> Receive:
    """The same body once more; then whatever follows, such as the client's going."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
