"""Bytes of an object on their way out: ranges, hashes, what the client has already."""

from __future__ import annotations

import re
from email.utils import formatdate

from drillyard_emulators.gcp.gcs.documents import etag
from drillyard_emulators.gcp.gcs.objects import StoredObject
from drillyard_emulators.http.fields import text
from drillyard_emulators.http.wire import Refusal, Request, Response

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def media(request: Request, stored: StoredObject) -> Response:
    """The content, or the requested range.

    Raises:
        Refusal: 416 for a range behind the end.
    """
    size = len(stored.data)
    sums = f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else "")
    headers = {
        "Content-Type": text(stored.fields, "contentType", "application/octet-stream"),
        "ETag": f'"{etag(stored)}"',
        "Last-Modified": formatdate(stored.updated, usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Metageneration": str(stored.metageneration),
        "X-Goog-Hash": sums,
        "X-Goog-Storage-Class": text(stored.fields, "storageClass", "STANDARD"),
        "X-Goog-Stored-Content-Length": str(size),
        "X-Goog-Stored-Content-Encoding": text(stored.fields, "contentEncoding", "identity"),
    }
    if "contentEncoding" in stored.fields:
        headers["Content-Encoding"] = text(stored.fields, "contentEncoding")
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or match.groups() == ("", ""):
        return Response(200, stored.data, headers)
    first, last = match.groups()
    start = max(0, size - int(last)) if first == "" else int(first)
    stop = size if first == "" or last == "" else min(size, int(last) + 1)
    if start >= size:
        raise Refusal(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(206, stored.data[start:stop], headers)
