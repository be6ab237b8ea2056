"""The XML API: whole objects, listings and multipart uploads (what ``transfer_manager`` uses)."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from drillyard_emulators.gcp.gcs.documents import etag
from drillyard_emulators.gcp.gcs.listing import page
from drillyard_emulators.gcp.gcs.objects import Conditions, Storage, StoredObject, crc32c, md5
from drillyard_emulators.gcp.gcs.reading import media
from drillyard_emulators.gcp.gcs.uploads import Need, hashes
from drillyard_emulators.http.clock import rfc3339
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal, Request, Response, parts_of

_PERMISSION = {"PUT": "create", "POST": "create", "DELETE": "delete"}
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(slots=True)
class _Multipart:
    bucket: str
    name: str
    resource: Document
    pieces: dict[int, bytes] = field(default_factory=dict)


class XmlApi:
    """``/BUCKET/OBJECT``.

    Args:
        storage: What is kept.
        need: Insists on a permission on a bucket or object.
    """

    def __init__(self, storage: Storage, need: Need) -> None:
        self._storage, self._need = storage, need
        self._multiparts: dict[str, _Multipart] = {}

    def serve(self, request: Request) -> Response:
        """Errors are XML here too."""
        try:
            return self._serve(request)
        except Refusal as refusal:
            text = f"<Code>{refusal.reason}</Code><Message>{escape(refusal.message)}</Message>"
            return _xml(f"<Error>{text}</Error>", refusal.status)

    def _serve(self, request: Request) -> Response:
        bucket, _, _ = request.path.strip("/").partition("/")
        name = "/".join(parts_of(request.path)[1:])
        query = request.query
        if not name:
            self._need(request, "storage.objects.list", bucket, "", True)
            return self._list(request, bucket)
        permission = _PERMISSION.get(request.method, "get")
        self._need(request, f"storage.objects.{permission}", bucket, name)
        if "uploads" in query or "uploadId" in query:
            return self._multipart(request, bucket, name)
        if request.method == "PUT":
            resource = _resource(request)
            stored = self._storage.write(
                bucket, name, request.body, resource, _conditions(request), request.caller
            )
            return Response(200, b"", _stored(stored))
        if request.method == "DELETE":
            self._storage.delete(bucket, name, query.get("generation"), _conditions(request))
            return Response(204)
        there = self._storage.get(bucket, name, query.get("generation"))
        if request.headers.get("if-none-match", "").strip('"') == etag(there):
            return Response(304)
        return media(request, there)

    def _multipart(self, request: Request, bucket: str, name: str) -> Response:
        if "uploads" in request.query:
            self._storage.bucket(bucket)
            key = uuid.uuid4().hex
            self._multiparts[key] = _Multipart(bucket, name, _resource(request))
            where = f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(name)}</Key>"
            return _xml(
                _root("InitiateMultipartUploadResult", f"{where}<UploadId>{key}</UploadId>")
            )
        upload = self._multiparts.get(request.query["uploadId"])
        if upload is None:
            raise Refusal(404, "NoSuchUpload", "The requested upload was not found.")
        if request.method == "PUT":
            number = int(request.query["partNumber"])
            upload.pieces[number] = request.body
            sums = f"crc32c={crc32c(request.body)},md5={md5(request.body)}"
            return Response(200, b"", {"ETag": f'"{number}"', "X-Goog-Hash": sums})
        if request.method == "DELETE":
            del self._multiparts[request.query["uploadId"]]
            return Response(204)
        numbers = [
            int(e.text or 0)
            for e in ET.fromstring(request.body).iter()
            if e.tag.endswith("PartNumber")
        ]
        if not numbers or any(number not in upload.pieces for number in numbers):
            raise Refusal(
                400, "InvalidPart", "One or more of the specified parts could not be found."
            )
        data = b"".join(upload.pieces[number] for number in sorted(numbers))
        stored = self._storage.write(
            bucket, name, data, upload.resource, _conditions(request), request.caller, len(numbers)
        )
        del self._multiparts[request.query["uploadId"]]
        where = f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(name)}</Key>"
        text = f"{where}<ETag>&quot;{etag(stored)}&quot;</ETag>"
        answer = _xml(_root("CompleteMultipartUploadResult", text))
        answer.headers.update(_stored(stored))
        return answer

    def _list(self, request: Request, bucket: str) -> Response:
        query = request.query
        asked = {
            "prefix": query.get("prefix", ""),
            "delimiter": query.get("delimiter", ""),
            "maxResults": query.get("max-keys", ""),
            "pageToken": query.get("continuation-token", ""),
            "startOffset": query["start-after"] + "\0" if query.get("start-after") else "",
        }
        objects, prefixes, token = page(self._storage.bucket(bucket), asked)
        more = str(token is not None).lower()
        text = f"<Name>{escape(bucket)}</Name><IsTruncated>{more}</IsTruncated>"
        if token is not None:
            text += f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
        for stored in objects:
            text += (
                f"<Contents><Key>{escape(stored.name)}</Key><Generation>{stored.generation}</Generation>"
                f"<LastModified>{rfc3339(stored.updated)}</LastModified><Size>{len(stored.data)}</Size>"
                f"<ETag>&quot;{etag(stored)}&quot;</ETag></Contents>"
            )
        for prefix in prefixes:
            text += f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"
        return _xml(_root("ListBucketResult", text))


def _conditions(request: Request) -> Conditions:
    names = {
        "x-goog-if-generation-match": "ifGenerationMatch",
        "x-goog-if-metageneration-match": "ifMetagenerationMatch",
    }
    conditions = {names[key]: value for key, value in request.headers.items() if key in names}
    return Conditions.of(conditions)


def _resource(request: Request) -> Document:
    prefix = "x-goog-meta-"
    metadata = {k[len(prefix) :]: v for k, v in request.headers.items() if k.startswith(prefix)}
    content = {"contentType": request.headers.get("content-type"), "metadata": metadata}
    return {**content, **hashes(request)}


def _stored(stored: StoredObject) -> dict[str, str]:
    return {
        "ETag": f'"{etag(stored)}"',
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Hash": f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else ""),
        "X-Goog-Stored-Content-Length": str(len(stored.data)),
    }


def _root(name: str, content: str) -> str:
    return f'<{name} xmlns="{_NAMESPACE}">{content}</{name}>'


def _xml(text: str, status: int = 200) -> Response:
    body = f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode()
    return Response(status, body, {"Content-Type": "application/xml; charset=UTF-8"})
