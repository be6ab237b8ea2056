"""Lists: filtered, in pages, of one place or of all."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TypeVar

from drillyard_emulators.gcp.compute.filters import parse
from drillyard_emulators.gcp.compute.routing import Call
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal

_PAGE = 500
_T = TypeVar("_T")


def listing(
    call: Call, kind: str, documents: Iterable[Document], field: str = "items"
) -> Document:
    """One page of a list.

    Args:
        call: With ``filter``, ``maxResults`` and ``pageToken``.
        kind: Google's word for the list.
        documents: All, in order.
        field: Where they go.
    """
    test = parse(call.request.query.get("filter", ""))
    listed, token = _page(call, [document for document in documents if test(document)])
    answer: Document = {field: listed} if listed else {}
    if kind:
        answer = {"kind": kind, "id": call.request.path.partition("/compute/v1/")[2], **answer}
        answer["selfLink"] = f"https://www.googleapis.com{call.request.path}"
    return {**answer, **({"nextPageToken": token} if token else {})}


def aggregated(
    call: Call,
    kind: str,
    field: str,
    documents: Iterable[tuple[str, Document]],
    empty: Iterable[str],
    unreachable: Sequence[str] = (),
) -> Document:
    """One page of an aggregated list.

    Args:
        call: As for ``listing``.
        kind: Google's word for the list.
        field: Where a place's documents go.
        documents: Place and document.
        empty: Places to name although they have none.
        unreachable: Places of which nothing is known now.
    """
    test = parse(call.request.query.get("filter", ""))
    kept = [(p, document) for p, document in documents if test(document) and p not in unreachable]
    listed, token = _page(call, kept)
    grouped: dict[str, list[Document]] = {}
    for place, document in listed:
        grouped.setdefault(place, []).append(document)
    places: Document = {place: {field: entries} for place, entries in grouped.items()}
    if call.request.query.get("returnPartialSuccess") != "never":
        for place in empty:
            data = [{"key": "scope", "value": place}]
            text = f"There are no results for scope '{place}' on this page."
            warning: Document = {"code": "NO_RESULTS_ON_PAGE", "message": text, "data": data}
            places.setdefault(place, {"warning": warning})
    for place in unreachable:
        text = f"The scope '{place}' could not be reached."
        places[place] = {"warning": {"code": "UNREACHABLE", "message": text}}
    answer: Document = {
        "kind": kind,
        "id": call.request.path.partition("/compute/v1/")[2],
        "items": places,
        "selfLink": f"https://www.googleapis.com{call.request.path}",
    }
    return {**answer, **({"nextPageToken": token} if token else {})}


def _page(call: Call, found: list[_T]) -> tuple[list[_T], str | None]:
    query = call.request.query
    try:
        size = min(int(query.get("maxResults") or _PAGE), _PAGE)
        start = int(base64.b64decode(query["pageToken"])) if query.get("pageToken") else 0
    except ValueError as error:
        raise Refusal(400, "invalid", "Invalid value for field 'pageToken'.") from error
    if start + size >= len(found):
        return found[start:], None
    return found[start : start + size], base64.b64encode(str(start + size).encode()).decode()
