"""Listing of objects: prefix, delimiter, ranges, pages. Never stale."""

from __future__ import annotations

import base64
import bisect
from collections.abc import Iterator, Mapping
from itertools import groupby

from drillyard_emulators.gcp.gcs.documents import object_document
from drillyard_emulators.gcp.gcs.objects import Bucket, StoredObject
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal

_PAGE = 1000


def list_objects(bucket: Bucket, query: Mapping[str, str]) -> Document:
    """One page of ``objects.list``."""
    # The Python client writes ``versions=True``.
    versions = query.get("versions", "").lower() == "true"
    objects, prefixes, token = page(bucket, query, versions)
    document: Document = {"kind": "storage#objects"}
    if objects:
        document["items"] = [object_document(stored) for stored in objects]
    if prefixes:
        document["prefixes"] = prefixes
    if token is not None:
        document["nextPageToken"] = token
    return document


def page(
    bucket: Bucket, query: Mapping[str, str], versions: bool = False
) -> tuple[list[StoredObject], list[str], str | None]:
    """Objects, folders and the next token; both kinds count towards the size of a page."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    trailing = query.get("includeTrailingDelimiter", "").lower() == "true"
    try:
        limit = min(int(query.get("maxResults") or _PAGE), _PAGE)
        after = base64.b64decode(query["pageToken"]).decode() if query.get("pageToken") else ""
    except ValueError as error:
        raise Refusal(400, "invalid", "Invalid page token or size") from error
    objects: list[StoredObject] = []
    prefixes: list[str] = []
    last = ""
    walk = _walk(bucket, prefix, query, versions)
    # The names in a folder follow each other: it is one entry.
    for (entry, is_folder), names in groupby(walk, lambda n: _entry(n[0], prefix, delimiter)):
        if entry <= after:
            continue
        if len(objects) + len(prefixes) >= limit:
            return objects, prefixes, base64.b64encode(last.encode()).decode()
        if is_folder:
            prefixes.append(entry)
        for name, all_of_it in names:
            if not is_folder or (trailing and name == entry):
                objects += all_of_it
        last = entry
    return objects, prefixes, None


def _entry(name: str, prefix: str, delimiter: str) -> tuple[str, bool]:
    """Returns the folder that a name is in, or the name itself, and whether it is a folder."""
    cut = name.find(delimiter, len(prefix)) if delimiter else -1
    return (name, False) if cut < 0 else (name[: cut + len(delimiter)], True)


def _walk(
    bucket: Bucket, prefix: str, query: Mapping[str, str], versions: bool
) -> Iterator[tuple[str, list[StoredObject]]]:
    """Names in order with their generations, from where the listing begins."""
    start, end = query.get("startOffset", ""), query.get("endOffset")
    archived: dict[str, list[StoredObject]] = {}
    names = bucket.names
    if versions and bucket.archived:
        for stored in bucket.archived:
            archived.setdefault(stored.name, []).append(stored)
        names = sorted({*names, *archived})
    for index in range(bisect.bisect_left(names, max(prefix, start)), len(names)):
        name = names[index]
        if not name.startswith(prefix) or (end is not None and end and name >= end):
            return
        live = [bucket.live[name]] if name in bucket.live else []
        yield name, archived.get(name, []) + live
