"""Faults on demand: rules over requests.

A rule names requests by a regular expression over ``METHOD host/path?query`` and says what goes
wrong: the answer is an error, never comes, comes late, is cut or has a bit flipped. With ``after``
the work is done first and only the answer goes wrong, which is the case clients handle worst.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import App, ConnectionLost, Refusal, Request, Response

_REASONS = {403: "rateLimitExceeded", 429: "rateLimitExceeded", 503: "backendError"}


class FaultRule(BaseModel):
    """One rule.

    Attributes:
        match: Regular expression over ``METHOD host/path?query``, searched anywhere.
        method: Only this method.
        status: Answer with this status; None where the answer is lost or spoiled instead.
        reason: Google's word for it; the default fits the status.
        message: Text of the error.
        retry_after_s: Value of the header Retry-After of such an answer; None: the service's own.
        lose: Close the connection without an answer.
        after: Do the work first, then spoil the answer.
        delay_s: Wait so long (in real time) before anything else.
        delay_most_s: Longest wait, where each request waits for a random time from ``delay_s`` on.
        lasts_s: The first request that it hits begins an outage: for so many seconds (of real
            time) it hits every request that matches, and then none.
        truncate: Bytes to keep of the answer's body (its length is announced whole).
        flip: Flip one bit in the middle of the answer's body.
        times: How often it applies; None for ever.
        skip: How many matching requests pass first.
        probability: Share of matching requests that it hits.
        played: How often it was applied.
    """

    model_config = ConfigDict(extra="forbid")

    match: str = ""
    method: str | None = None
    status: int | None = None
    reason: str | None = None
    message: str = "a fault on demand"
    retry_after_s: int | None = None
    lose: bool = False
    after: bool = False
    delay_s: float = 0.0
    delay_most_s: float = 0.0
    lasts_s: float | None = None
    truncate: int | None = None
    flip: bool = False
    times: int | None = None
    skip: int = 0
    probability: float = Field(default=1.0, ge=0, le=1)
    played: int = 0


class Faults:
    """The rules in force.

    Args:
        seed: Seed of the random choices, so that faults can be repeated.
        form: Makes an error's answer of status, reason and message; default: as Google does.
    """

    def __init__(
        self, seed: int = 0, form: Callable[[int, str, str], Response] | None = None
    ) -> None:
        self._form = form or _as_google
        self.random = random.Random(seed)
        self._rules: list[FaultRule] = []
        self._outages: dict[int, float] = {}
        """Place of a rule that lasts to the time at which it ends."""
        self._lock = threading.Lock()

    def add(self, rule: FaultRule) -> None:
        """Put a rule in force."""
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        """Removes all faults."""
        with self._lock:
            self._rules.clear()
            self._outages.clear()

    def rules(self) -> list[Document]:
        """The rules, with how often each was applied."""
        with self._lock:
            return [rule.model_dump(mode="json") for rule in self._rules]

    def around(self, app: App) -> App:
        """The same service with faults."""

        def served(request: Request) -> Response:
            rule = self._pick(request)
            if rule is None:
                return app(request)
            time.sleep(self.random.uniform(rule.delay_s, max(rule.delay_s, rule.delay_most_s)))
            if rule.after or rule.truncate is not None or rule.flip:
                return self._spoil(app(request), rule)
            if rule.lose:
                raise ConnectionLost
            return app(request) if rule.status is None else self._error(rule)

        return served

    def _pick(self, request: Request) -> FaultRule | None:
        with self._lock:
            for place, rule in enumerate(self._rules):
                if rule.times is not None and rule.played >= rule.times:
                    continue
                if rule.method is not None and rule.method != request.method:
                    continue
                if not re.search(rule.match, f"{request.method} {request.url}"):
                    continue
                if (ends_at := self._outages.get(place)) is not None:
                    if time.monotonic() >= ends_at:
                        continue
                    rule.played += 1
                    return rule
                if rule.probability < 1 and self.random.random() >= rule.probability:
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.played += 1
                if rule.lasts_s is not None:
                    self._outages[place] = time.monotonic() + rule.lasts_s
                return rule
        return None

    def _error(self, rule: FaultRule) -> Response:
        status = rule.status or 500
        answer = self._form(status, rule.reason or "", rule.message)
        if rule.retry_after_s is not None:
            answer.headers["Retry-After"] = str(rule.retry_after_s)
        return answer

    def _spoil(self, answer: Response, rule: FaultRule) -> Response:
        if rule.lose:
            raise ConnectionLost
        if rule.status is not None:
            return self._error(rule)
        if rule.flip and answer.body:
            spoiled = bytearray(answer.body)
            spoiled[len(spoiled) // 2] ^= 1
            answer.body = bytes(spoiled)
        if rule.truncate is not None:
            answer.headers["Content-Length"] = str(len(answer.body))
            answer.headers["Connection"] = "close"
            answer.body = answer.body[: rule.truncate]
        return answer


def _as_google(status: int, reason: str, message: str) -> Response:
    return Refusal(status, reason or _REASONS.get(status, "internalError"), message).response()
