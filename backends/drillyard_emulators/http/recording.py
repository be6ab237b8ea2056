"""The log of every request, for tests and for the comparison with Google's documents."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import asdict, dataclass

from drillyard.documents.json_types import JsonView
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import App, ConnectionLost, Request, Response

_KEPT = 200_000


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        status: Status of the answer; 0 if it was lost.
        asked: The request's JSON, where bodies are recorded.
        answered: The answer's JSON, where bodies are recorded.
    """

    number: int
    time: float
    method: str
    host: str
    path: str
    query: str
    status: int
    caller: str | None
    asked: JsonView = None
    answered: JsonView = None


class Recorder:
    """Keeps the newest exchanges.

    Args:
        clock: Stamps them.
        bodies: Keep JSON bodies too.
    """

    def __init__(self, clock: EmulatedClock, bodies: bool = False) -> None:
        self._clock, self._bodies = clock, bodies
        self._kept: deque[Exchange] = deque(maxlen=_KEPT)
        self._number = 0
        self._lock = threading.Lock()

    def around(self, app: App) -> App:
        """The same service, recorded."""

        def served(request: Request) -> Response:
            try:
                answer = app(request)
            except ConnectionLost:
                self._keep(request, None)
                raise
            self._keep(request, answer)
            return answer

        return served

    def exchanges(self, match: str = "", since: int = 0) -> list[Document]:
        """Exchanges in order whose ``METHOD host/path?query`` matches."""
        with self._lock:
            kept = list(self._kept)
        newer = (e for e in kept if e.number > since)
        return [asdict(e) for e in newer if re.search(match, _line(e))]

    def _keep(self, request: Request, answer: Response | None) -> None:
        with self._lock:
            self._number += 1
            exchange = Exchange(
                self._number,
                self._clock.now(),
                request.method,
                request.host,
                request.path,
                request.query_text,
                answer.status if answer else 0,
                request.caller,
            )
            if self._bodies:
                exchange.asked = _json(request)
                exchange.answered = answer.json() if answer else None
            self._kept.append(exchange)


def _line(exchange: Exchange) -> str:
    query = f"?{exchange.query}" if exchange.query else ""
    return f"{exchange.method} {exchange.host}{exchange.path}{query}"


def _json(request: Request) -> JsonView:
    if "json" not in request.headers.get("content-type", "") or not request.body:
        return None
    try:
        return request.json()
    except ValueError:
        return None
