"""The emulator's control port: faults, clock, state and log, as JSON over loopback."""

from __future__ import annotations

import json
from collections.abc import Callable

from pydantic import ValidationError

from drillyard.documents.json_types import JsonView
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal, Request, Response

Verb = Callable[[Document], JsonView]


class Control:
    """Verbs by name: ``POST /VERB`` with their arguments as JSON.

    Args:
        verbs: The known verbs.
    """

    def __init__(self, verbs: dict[str, Verb]) -> None:
        self._verbs = verbs

    def __call__(self, request: Request) -> Response:
        """Answers one request; a caller's mistake is 400 with its text."""
        verb = self._verbs.get(request.path.strip("/"))
        if verb is None:
            text = f"no verb {request.path!r}; there are {', '.join(sorted(self._verbs))}"
            return Refusal(404, "notFound", text).response()
        try:
            return Response.of(verb(request.json()))
        except (ValidationError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            return Refusal(400, "invalid", f"{type(error).__name__}: {error}").response()
