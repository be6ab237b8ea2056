"""From a path to a method of the Compute API, with the permission that it needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Request

_PERMISSION = {
    "insert": "create",
    "aggregatedList": "list",
    "patch": "update",
    "createInstances": "update",
    "deleteInstances": "update",
    "resize": "update",
    "setInstanceTemplate": "update",
    "listManagedInstances": "get",
    "listErrors": "get",
    "wait": "get",
    "getFromFamily": "getFromFamily",
}


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        method: Google's id without ``compute.``: ``instanceGroupManagers.insert``.
        where: ``global``, ``zones/Z`` or ``regions/R``; empty for the project.
        name: Name of the resource; empty for collections.
    """

    request: Request
    method: str
    where: str
    name: str

    @property
    def body(self) -> Document:
        """The request's JSON."""
        document: Document = self.request.json()
        return document

    @property
    def zone(self) -> str:
        """The zone of a zonal call."""
        return self.where.partition("/")[2]


Handler = Callable[[Call], Document]


class Routes:
    """The methods that are there."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], str, Handler]] = []

    def add(self, verb: str, pattern: str, method: str, handler: Handler) -> None:
        """Add a method.

        Args:
            verb: HTTP method.
            pattern: After ``projects/P``; ``{where}`` is a zone or region, ``{name}`` one part.
            method: Google's id.
            handler: Makes the answer.
        """
        text = pattern.replace("{where}", r"(?P<where>zones/[^/]+|regions/[^/]+)")
        text = text.replace("{zone}", r"(?P<where>zones/[^/]+)").replace(
            "{name}", "(?P<name>[^/]+)"
        )
        text = text.replace("{place}", r"(?P<where>global|zones/[^/]+|regions/[^/]+)")
        self._routes.append((verb, re.compile(text), method, handler))

    def find(self, request: Request, path: str) -> tuple[Handler, Call] | None:
        """The handler of a request, by its path after ``projects/P/``."""
        for verb, pattern, method, handler in self._routes:
            match = pattern.fullmatch(path)
            if match is not None and verb == request.method:
                parts = match.groupdict()
                where = parts.get("where") or ("global" if path.startswith("global/") else "")
                call = Call(request, method, where, unquote(parts.get("name") or ""))
                return handler, call
        return None


_MORE = {
    "instanceGroupManagers.delete": ["compute.instanceGroups.delete"],
    "instanceGroupManagers.insert": ["compute.instanceGroups.create"],
}
"""Google's page of each names these too, and each of its own roles has both."""


def permissions_of(method: str, where: str) -> list[str]:
    """What a caller needs for a method (``compute.instances.create``)."""
    collection, _, verb = method.partition(".")
    if collection == "operations":
        kind = {"z": "zoneOperations", "r": "regionOperations"}.get(where[:1], "globalOperations")
        collection = kind
    first = f"compute.{collection}.{_PERMISSION.get(verb, verb)}"
    return [first, *_MORE.get(method, [])]
