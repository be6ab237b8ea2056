"""One service for all doors of Cloud Storage: JSON, uploads, downloads, batches, XML."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from drillyard_emulators.gcp.gcs.documents import MEDIA
from drillyard_emulators.gcp.gcs.json_api import Authorise, JsonApi, batch_answer
from drillyard_emulators.gcp.gcs.objects import Storage
from drillyard_emulators.gcp.gcs.uploads import Uploads, parts
from drillyard_emulators.gcp.gcs.xml_api import XmlApi
from drillyard_emulators.http.wire import Refusal, Request, Response

_BATCH_LIMIT = 100


def everybody(caller: str | None, permission: str, resource: str) -> bool:
    """No rights are checked."""
    return True


class StorageService:
    """``storage.googleapis.com``.

    Args:
        storage: What is kept.
        may: Decides on rights.
        project: Number of the project that owns new buckets.
    """

    def __init__(self, storage: Storage, may: Authorise = everybody, project: str = "1") -> None:
        self.storage = storage
        self._json = JsonApi(storage, may, project)
        self._uploads = Uploads(storage, self._json.need)
        self._xml = XmlApi(storage, self._json.need)

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        try:
            answer = self._route(request)
            if request.origin.startswith("http://") and answer.json() is not None:
                here = f"{request.origin}{MEDIA[MEDIA.index('/download') :]}"
                answer.body = answer.body.replace(MEDIA.encode(), here.encode())
            return answer
        except Refusal as refusal:
            return Response(304) if refusal.status == 304 else refusal.response()

    def _route(self, request: Request) -> Response:
        path = request.path
        for prefix in ("/storage/v1/", "/download/storage/v1/"):
            if path.startswith(prefix):
                return self._json.serve(request, path[len(prefix) :])
        for prefix in ("/upload/storage/v1/b/", "/resumable/upload/storage/v1/b/"):
            if path.startswith(prefix):
                bucket = path[len(prefix) :].partition("/")[0]
                return self._uploads.serve(request, bucket)
        if path.startswith("/batch/storage/v1"):
            return self._batch(request)
        return self._xml.serve(request)

    def _batch(self, request: Request) -> Response:
        pieces = parts(request.headers.get("content-type", ""), request.body)
        if len(pieces) > _BATCH_LIMIT:
            raise Refusal(400, "invalid", f"A batch holds at most {_BATCH_LIMIT} calls.")
        answers = []
        for head, content in pieces:
            key = head.get("content-id", "").strip("<>")
            answers.append((key, self(_inner(request, content))))
        return batch_answer(answers)


def _inner(request: Request, content: bytes) -> Request:
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = head.decode("latin-1").splitlines()
    method, target = lines[0].split()[:2]
    parsed = urlsplit(target)
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    query = dict(parse_qsl(parsed.query, keep_blank_values=True))
    return Request(
        method, request.host, parsed.path, query, parsed.query, headers, body, request.caller
    )
