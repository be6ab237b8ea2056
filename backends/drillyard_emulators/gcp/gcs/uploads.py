"""Uploads: whole, multipart, and resumable over several requests."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Protocol

from drillyard_emulators.gcp.gcs.documents import object_document
from drillyard_emulators.gcp.gcs.objects import Conditions, Storage
from drillyard_emulators.http.fields import Document, text
from drillyard_emulators.http.wire import Refusal, Request, Response


class Need(Protocol):
    """Insists on a permission on a bucket or object; see ``JsonApi.need``."""

    def __call__(
        self, request: Request, permission: str, bucket: str, name: str = "", list_: bool = False
    ) -> None:
        """Raises a refusal where it is missing."""


_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True)
class Session:
    """One resumable upload; its preconditions were said at its start, and hold at its end."""

    bucket: str
    name: str
    resource: Document
    conditions: Conditions
    caller: str | None
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    done: Response | None = None


class Uploads:
    """The upload end of the JSON API.

    Args:
        storage: Where objects go.
        need: Insists on a permission on an object.
    """

    def __init__(self, storage: Storage, need: Need) -> None:
        self._storage, self._need = storage, need
        self._sessions: dict[str, Session] = {}

    def serve(self, request: Request, bucket: str) -> Response:
        """``/upload/storage/v1/b/BUCKET/o``."""
        if "upload_id" in request.query:
            return self._continue(request)
        kind = request.query.get("uploadType") or request.headers.get("x-goog-upload-protocol")
        if kind == "media":
            resource: Document = {"contentType": request.headers.get("content-type")}
            return self._whole(request, bucket, resource, request.body)
        if kind == "multipart":
            resource, data = parse_related(request)
            return self._whole(request, bucket, resource, data)
        if kind == "resumable":
            return self._start(request, bucket)
        raise Refusal(400, "invalid", f"Unknown uploadType {kind!r}")

    def _whole(self, request: Request, bucket: str, resource: Document, data: bytes) -> Response:
        self._storage.bucket(bucket)
        name = request.query.get("name") or text(resource, "name")
        self._need(request, "storage.objects.create", bucket, name)
        conditions = Conditions.of(request.query)
        stored = self._storage.write(
            bucket, name, data, {**hashes(request), **resource}, conditions, request.caller
        )
        return Response.of(object_document(stored))

    def _start(self, request: Request, bucket: str) -> Response:
        self._storage.bucket(bucket)
        resource = request.json()
        name = request.query.get("name") or text(resource, "name")
        if not name:
            raise Refusal(400, "required", "Required")
        self._need(request, "storage.objects.create", bucket, name)
        if "x-upload-content-type" in request.headers:
            resource.setdefault("contentType", request.headers["x-upload-content-type"])
        conditions = Conditions.of(request.query)
        # Told at once where it is plain already; the end counts all the same.
        conditions.check(self._storage.find(bucket, name))
        key = uuid.uuid4().hex
        self._sessions[key] = Session(bucket, name, resource, conditions, request.caller)
        location = f"{request.origin}{request.path}?uploadType=resumable&upload_id={key}"
        return Response(200, b"", {"Location": location, "X-GUploader-UploadID": key})

    def _continue(self, request: Request) -> Response:
        session = self._sessions.get(request.query["upload_id"])
        if session is None:
            raise Refusal(404, "notFound", "The upload session does not exist or has expired.")
        if request.method == "DELETE":
            del self._sessions[request.query["upload_id"]]
            return Response(499)
        if session.done is not None:
            return session.done
        total = self._take(session, request)
        if total is None or session.size < total:
            headers = {"Range": f"bytes=0-{session.size - 1}"} if session.size else {}
            return Response(308, b"", headers)
        if session.size > total:
            raise Refusal(400, "invalid", "More bytes than were announced.")
        data = b"".join(session.pieces)
        resource = {**hashes(request), **session.resource}
        stored = self._storage.write(
            session.bucket, session.name, data, resource, session.conditions, session.caller
        )
        session.pieces = []
        session.done = Response.of(object_document(stored))
        return session.done

    def _take(self, session: Session, request: Request) -> int | None:
        """Add what came; the whole size, where it is known by now."""
        header = request.headers.get("content-range")
        if header is None:
            session.pieces, session.size = [request.body], len(request.body)
            return session.size
        match = _RANGE.fullmatch(header)
        if match is None:
            raise Refusal(400, "invalid", f"Failed to parse Content-Range header {header!r}")
        first, _, total = match.groups()
        if first is not None:
            fresh = session.size - int(first)
            if fresh < 0:
                raise Refusal(503, "backendError", "Bytes are missing before this range.")
            # A client that lost an answer sends bytes again that are here already.
            session.pieces.append(request.body[fresh:])
            session.size += len(request.body[fresh:])
        return None if total == "*" else int(total)


def hashes(request: Request) -> dict[str, str]:
    """Hashes that came as a header (``X-Goog-Hash: crc32c=…,md5=…``)."""
    sums = {}
    for entry in request.headers.get("x-goog-hash", "").split(","):
        key, _, value = entry.strip().partition("=")
        if key in ("crc32c", "md5"):
            sums["md5Hash" if key == "md5" else key] = value
    return sums


def parse_related(request: Request) -> tuple[Document, bytes]:
    """The resource and the bytes of a ``multipart/related`` body.

    Google's clients write CRLF, gcsfs a bare LF; gcloud quotes the boundary with ``'``.
    """
    pieces = list(parts(request.headers.get("content-type", ""), request.body))
    if len(pieces) < 2:
        raise Refusal(400, "invalid", "The upload has no second part.")
    # By position: the object itself may well be JSON.
    resource: Document = json.loads(pieces[0][1])
    head, content = pieces[1]
    resource.setdefault("contentType", head.get("content-type"))
    return resource, content


def parts(content_type: str, body: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Headers (names in lower case) and content of each part of a multipart body."""
    match = re.search(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""", content_type)
    if match is None:
        raise Refusal(400, "invalid", "The Content-Type has no boundary.")
    mark = b"--" + next(group for group in match.groups() if group).encode()
    pieces = []
    for piece in re.split(rb"(?:\r?\n|^)" + re.escape(mark), body)[1:]:
        if piece.startswith(b"--"):
            break
        head, _, content = _cut(piece.lstrip(b" \t").removeprefix(b"\r").removeprefix(b"\n"))
        headers = {}
        for line in head.splitlines():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        pieces.append((headers, content))
    return pieces


def _cut(piece: bytes) -> tuple[bytes, bytes, bytes]:
    ends = [(at, mark) for mark in (b"\r\n\r\n", b"\n\n") if (at := piece.find(mark)) >= 0]
    if not ends:
        return piece, b"", b""
    at, mark = min(ends)
    return piece[:at], mark, piece[at + len(mark) :]
