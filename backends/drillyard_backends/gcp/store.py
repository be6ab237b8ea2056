"""A store in a bucket of Google Cloud Storage: ``gs://bucket/prefix``.

Listings are always fresh: the bucket is consistent, and there is no cache of a file system.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.errors import UserError
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard_backends.buckets import (
    BucketStore,
    again_when_damaged,
    content_type,
    from_metadata,
    into_place,
    unread,
)
from drillyard_backends.gcp.errors import limits_requests
from drillyard_backends.gcp.storage_errors import seam

if TYPE_CHECKING:
    import requests
    from google.api_core.page_iterator import Page
    from google.api_core.retry import Retry
    from google.cloud.storage import Blob, Bucket

NO_PROJECT = "no-project"
_LISTING = "storage#objects"
_URL = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(?P<prefix>.*))?\Z")
CHUNK = 8 << 20
"""Bytes in one piece of a resumable upload; a broken connection repeats one piece."""
PATIENCE_S = 45.0
"""Seconds for which one small request is repeated; the caller decides about longer outages."""
LONGEST_DELAY_S = 5.0
"""Longest pause between two tries. The library's own 60 s would allow only a few tries, and would
keep waiting after the bucket is back."""
_TIMEOUT_S = (10.0, 60.0)
_PASSING = (408, 429, 500, 502, 503, 504)


class GcsStore(BucketStore["Bucket"]):
    """Objects of a bucket under a prefix.

    Args:
        url: ``gs://bucket`` or ``gs://bucket/prefix``.

    Raises:
        UserError: The URL is not valid, or its prefix leads out of the bucket.
    """

    def __init__(self, url: str) -> None:
        match = _URL.match(url.rstrip("/"))
        if match is None:
            raise UserError(f"not a bucket: {url!r}", hint="write gs://bucket/prefix")
        self.bucket_name = match["bucket"]
        super().__init__(f"gs://{self.bucket_name}", match["prefix"] or "")

    def get(self, key: str) -> bytes:
        """Reads an object; its checksum is verified."""
        blob = self._blob(key)

        def read() -> bytes:
            with seam(self.url, key):
                data = bytes(
                    blob.download_as_bytes(
                        checksum="crc32c", timeout=_TIMEOUT_S, retry=_retry(PATIENCE_S)
                    )
                )
                self._must_be_ours(blob)
                return data

        return again_when_damaged(read)

    def stat(self, key: str) -> ObjectInfo | None:
        """Returns size and time of an object, or None."""
        blob = self._blob(key)
        try:
            with seam(self.url, key):
                blob.reload(timeout=_TIMEOUT_S, retry=_retry(PATIENCE_S))
                return ObjectInfo(key, int(blob.size or 0), blob.updated.timestamp())
        except ObjectMissing:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yields every object whose key starts with ``prefix``, sorted by key."""
        for info, _ in self._listed(prefix, "items(name,size,updated)"):
            yield info

    def contents(self, prefix: str) -> Iterator[tuple[ObjectInfo, bytes | None]]:
        """Yields like ``list``, with the bytes of each object that ``put_listed`` wrote."""
        for info, blob in self._listed(prefix, "items(name,size,updated,metadata,md5Hash)"):
            md5 = base64.b64decode(blob.md5_hash) if blob.md5_hash else None
            yield info, from_metadata(blob.metadata, md5)

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yields the names directly below a prefix, which ends with ``/`` or is empty."""
        names: set[str] = set()
        for page in self._pages(prefix, "prefixes", delimiter="/"):
            names.update(page.prefixes)
        cut = len(self._prefix) + len(prefix)
        yield from sorted(name[cut:].rstrip("/") for name in names)

    def delete(self, key: str) -> None:
        """Removes an object; a missing one is success."""
        blob = self._blob(key)
        with contextlib.suppress(ObjectMissing), seam(self.url, key):
            blob.delete(timeout=_TIMEOUT_S, retry=_retry(PATIENCE_S))

    def upload(self, key: str, path: Path) -> None:
        """Writes an object from a file; a large one in pieces that are repeated separately."""
        blob = self._blob(key, chunk_size=CHUNK)
        size = path.stat().st_size  # a missing file is the caller's error, not the bucket's
        with seam(self.url, key):
            blob.upload_from_filename(
                str(path),
                checksum="crc32c",
                timeout=_TIMEOUT_S,
                retry=_retry(PATIENCE_S + 30.0 * (size / CHUNK)),
            )
            self._must_be_ours(blob)

    def download(self, key: str, path: Path) -> None:
        """Reads an object into a file, atomically; its checksum is verified."""
        blob = self._blob(key)

        def read(temporary: Path) -> None:
            with seam(self.url, key):
                blob.download_to_filename(
                    str(temporary),
                    checksum="crc32c",
                    timeout=_TIMEOUT_S,
                    retry=_retry(10 * PATIENCE_S),
                )
                self._must_be_ours(blob)

        into_place(path, read)

    def now(self) -> float:
        """Returns the bucket's time: the date of its newest answer plus the time since.

        It is accurate to about a second, as is the ``Date`` of an answer.
        """
        return self._dates.now(lambda: next(iter(self.list("-no-such-key")), None))

    # -- inside -------------------------------------------------------------------------------

    def _connect(self) -> Bucket:
        with seam(self.url):
            import google.auth
            import requests.adapters
            from google.cloud import storage

            credentials, project = google.auth.default(scopes=list(storage.Client.SCOPE))
            # Requests about objects need no project, and the client refuses to be without one.
            client = storage.Client(project=project or NO_PROJECT, credentials=credentials)
            # For its traces the library requests the bucket whenever an object is missing. Every
            # poll for an order to stop would take two requests, and the traces are never read.
            client._bucket_metadata_cache = None
            # A worker's threads share one client; its default is ten connections.
            adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=32)
            session = client._http
            session.mount("https://", adapter)
            session.hooks["response"].append(self._read_clock)
            return client.bucket(self.bucket_name)

    def _read_clock(self, response: requests.Response, *_: object, **__: object) -> None:
        self._dates.read(response.headers.get("Date", ""))

    def _blob(self, key: str, chunk_size: int | None = None) -> Blob:
        check_key(key)
        return self._bucket.blob(self._prefix + key, chunk_size=chunk_size)

    def _upload(
        self, key: str, data: bytes, *, over: bool, metadata: dict[str, str] | None = None
    ) -> None:
        blob = self._blob(key)
        if metadata:
            blob.metadata = metadata
        conditions = {} if over else {"if_generation_match": 0}
        with seam(self.url, key):
            blob.upload_from_string(
                data,
                content_type=content_type(key),
                checksum="crc32c",
                timeout=_TIMEOUT_S,
                retry=_retry(PATIENCE_S),
                **conditions,
            )
            self._must_be_ours(blob)

    def _must_be_ours(self, blob: Blob) -> None:
        """Refuses an answer without the number of a generation, which the bucket always tells."""
        if blob.generation is None:
            raise unread(self.url, str(blob.name), "it has no generation")

    def _listed(self, prefix: str, fields: str) -> Iterator[tuple[ObjectInfo, Blob]]:
        cut, whole = len(self._prefix), self._prefix + prefix
        for page in self._pages(prefix, fields):
            with seam(self.url):
                blobs = list(page)
                if not all(blob.name.startswith(whole) for blob in blobs):
                    raise unread(self.url, whole, "objects of another folder")
                objects = [
                    (ObjectInfo(b.name[cut:], int(b.size or 0), b.updated.timestamp()), b)
                    for b in blobs
                ]
            yield from objects

    def _pages(self, prefix: str, fields: str, delimiter: str | None = None) -> Iterator[Page]:
        """Yields the pages of a listing; an empty page is one that says that it is a listing."""
        bucket = self._bucket
        with seam(self.url):
            pages = bucket.client.list_blobs(
                bucket,
                prefix=self._prefix + prefix,
                fields=f"kind,{fields},nextPageToken",
                timeout=_TIMEOUT_S,
                retry=_retry(PATIENCE_S),
                delimiter=delimiter,
            ).pages
        while True:
            with seam(self.url):
                page = next(pages, None)
                if page is not None and page.raw_page.get("kind") != _LISTING:
                    raise unread(self.url, prefix, "it is not a listing of objects")
            if page is None:
                return
            yield page


def _retry(seconds: float) -> Retry:
    from google.cloud.storage.retry import DEFAULT_RETRY

    again = DEFAULT_RETRY.with_timeout(seconds).with_delay(maximum=LONGEST_DELAY_S)
    return again.with_predicate(_may_pass)


def _may_pass(error: Exception) -> bool:
    """Returns whether a request may succeed later: what the library repeats, and rates."""
    import requests
    import urllib3
    from google.api_core.retry import if_transient_error

    answer = getattr(error, "response", None)
    broken = (
        ConnectionError,
        HTTPException,
        requests.Timeout,
        urllib3.exceptions.HTTPError,
    )
    return (
        if_transient_error(error)
        or isinstance(error, broken)
        or getattr(error, "code", getattr(answer, "status_code", None)) in _PASSING
        or limits_requests(answer)
    )
