"""A webhook on this machine that keeps what it is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.helpers.answering import Request, answering


class Webhook:
    """What was received.

    Attributes:
        url: Where it listens.
        told: The documents, in order.
        told_at: When each came, in seconds since the epoch.
        answers: Status of the next answers; 200 after the last.
    """

    def __init__(self) -> None:
        self.url = ""
        self.told: list[dict[str, Any]] = []
        self.told_at: list[float] = []
        self.answers: list[int] = []

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Keeps what is told, unless another status is to be answered."""
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.told_at.append(time.time())
            self.told.append(json.loads(request.body))
        return status, b""


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A receiver, while the context lasts."""
    hook = Webhook()
    with answering(hook.answer, Location="/done") as url:
        hook.url = f"{url}/done"
        yield hook
