"""A store in a container of Azure Blob Storage: ``az://account/container/prefix``.

Listings are always fresh.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from drillyard.errors import StoreUnavailable, UserError
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard_backends.azure.login import AGENT, credential
from drillyard_backends.azure.storage_errors import Changed, seam
from drillyard_backends.buckets import (
    BucketStore,
    KeyTaken,
    again_when_damaged,
    content_type,
    from_metadata,
    into_place,
)

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineResponse
    from azure.storage.blob import BlobClient, BlobProperties, ContainerClient, ContentSettings

T = TypeVar("T")
_URL = re.compile(
    r"az://(?P<account>[a-z0-9]{3,24})/(?P<container>[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){2,62})"
    r"(?:/(?P<prefix>.*))?\Z"
)
CHUNK = 4 << 20
"""Bytes in one piece of a transfer: the largest piece whose checksum the service computes."""
RETRIES = 6
TRIES = 3
"""Number of tries of a read that meets a write."""
_TIMEOUT_S = (10, 60)
NO_FOLDERS = (
    "has a hierarchical namespace: its listings show folders among the blobs",
    "set `account` and `container` to another storage account, created without "
    "--enable-hierarchical-namespace",
)
"""The reason to refuse such an account, and the fix."""


class BlobStore(BucketStore["ContainerClient"]):
    """Blobs of a container under a prefix.

    Args:
        url: ``az://account/container`` or ``az://account/container/prefix``.

    Raises:
        UserError: The URL is not valid, or its prefix leads out of the container.
    """

    def __init__(self, url: str) -> None:
        match = _URL.match(url.rstrip("/"))
        if match is None:
            raise UserError(
                f"not a container: {url!r}", hint="write az://account/container/prefix"
            )
        self.account, self.container = match["account"], match["container"]
        super().__init__(f"az://{self.account}/{self.container}", match["prefix"] or "")

    def get(self, key: str) -> bytes:
        """Reads an object; its checksum is verified."""
        blob = self._blob(key)

        def read() -> bytes:
            with seam(self.url, key):
                return bytes(blob.download_blob(validate_content=True).readall())

        return again_when_damaged(lambda: _again_when_changed(read))

    def stat(self, key: str) -> ObjectInfo | None:
        """Returns size and time of an object, or None."""
        blob = self._blob(key)
        try:
            with seam(self.url, key):
                properties = blob.get_blob_properties()
                return ObjectInfo(key, int(properties.size), properties.last_modified.timestamp())
        except ObjectMissing:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yields every object whose key starts with ``prefix``, sorted by key."""
        whole = self._prefix + prefix
        for blob in self._pages(lambda: self._bucket.list_blobs(name_starts_with=whole)):
            yield self._info(blob)

    def contents(self, prefix: str) -> Iterator[tuple[ObjectInfo, bytes | None]]:
        """Yields like ``list``, with the bytes of each object that ``put_listed`` wrote."""
        whole = self._prefix + prefix
        for blob in self._pages(
            lambda: self._bucket.list_blobs(name_starts_with=whole, include=["metadata"])
        ):
            md5 = blob.content_settings.content_md5
            yield self._info(blob), from_metadata(blob.metadata, bytes(md5) if md5 else None)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yields every key that starts with a prefix, sorted."""
        cut = len(self._prefix)
        whole = self._prefix + prefix
        for name in self._pages(lambda: self._bucket.list_blob_names(name_starts_with=whole)):
            yield name[cut:]

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yields the names directly below a prefix, which ends with ``/`` or is empty."""
        whole = self._prefix + prefix
        walk = self._pages(lambda: self._bucket.walk_blobs(whole, delimiter="/"))
        yield from sorted(item.name[len(whole) : -1] for item in walk if item.name.endswith("/"))

    def delete(self, key: str) -> None:
        """Removes an object; a missing one is success."""
        blob = self._blob(key)
        with contextlib.suppress(ObjectMissing), seam(self.url, key):
            blob.delete_blob(delete_snapshots="include")

    def upload(self, key: str, path: Path) -> None:
        """Writes an object from a file; a large one in pieces that are repeated separately."""
        blob = self._blob(key)
        with path.open("rb") as file, seam(self.url, key):
            blob.upload_blob(file, overwrite=True, validate_content=True, **_settings(key))

    def download(self, key: str, path: Path) -> None:
        """Reads an object into a file, atomically; its checksum is verified."""
        blob = self._blob(key)

        def read(temporary: Path) -> None:
            with seam(self.url, key), temporary.open("wb") as file:
                blob.download_blob(validate_content=True).readinto(file)

        into_place(path, lambda temporary: _again_when_changed(lambda: read(temporary)))

    def now(self) -> float:
        """Returns the service's time: the date of its newest answer plus the time since."""
        return self._dates.now(lambda: self.stat("-no-such-key"))

    def make_container(self) -> bool:
        """Creates the container unless it exists; returns True if this call created it.

        Raises:
            StoreUnavailable: It does not exist and cannot be created.
        """
        try:
            with seam(self.url, conditional=True):
                if self._bucket.exists():
                    return False
                self._bucket.create_container()
        except KeyTaken:
            return False
        return True

    def check_flat(self) -> None:
        """Refuses an account with real folders. Finds out by writing a blob, which needs no right.

        Raises:
            UserError: The account has real folders, which are listed but cannot be read.
        """
        folder = f"canary-{secrets.token_hex(6)}"
        leaf = f"{folder}/leaf"
        self.put(leaf, b"1")
        try:
            listed = set(self.keys(folder))
        finally:
            self.delete(leaf)
        if folder in listed:
            with contextlib.suppress(StoreUnavailable):
                self.delete(folder)
            raise UserError(
                f"the storage account {self.account} {NO_FOLDERS[0]}", hint=NO_FOLDERS[1]
            )

    # -- inside -------------------------------------------------------------------------------

    def _connect(self) -> ContainerClient:
        with seam(self.url):
            import requests
            from azure.core.exceptions import ClientAuthenticationError
            from azure.core.pipeline.transport import RequestsTransport
            from azure.storage.blob import ContainerClient, ExponentialRetry

            class Tries(ExponentialRetry):  # type: ignore[misc, unused-ignore]
                """Does not repeat a refused sign-in: azure-identity has repeated it already."""

                def increment(self, *args: object, **named: object) -> bool:
                    refused = isinstance(named.get("error"), ClientAuthenticationError)
                    return not refused and bool(super().increment(*args, **named))

            # A worker's threads share one client; its default is ten connections.
            session = requests.Session()
            session.mount("https://", requests.adapters.HTTPAdapter(4, 32))
            return ContainerClient(
                f"https://{self.account}.blob.core.windows.net",
                self.container,
                credential(),
                user_agent=AGENT,
                transport=RequestsTransport(session=session, session_owner=False),
                retry_policy=Tries(
                    initial_backoff=0.5,
                    increment_base=1.7,
                    retry_total=RETRIES,
                    random_jitter_range=0.3,
                ),
                connection_timeout=_TIMEOUT_S[0],
                read_timeout=_TIMEOUT_S[1],
                max_single_get_size=CHUNK,
                max_chunk_get_size=CHUNK,
                max_single_put_size=CHUNK,
                max_block_size=CHUNK,
                raw_response_hook=self._read,
            )

    def _read(self, answer: PipelineResponse) -> None:
        """Reads the clock; refuses what decides something and is not the service's answer."""
        from azure.core.exceptions import ServiceResponseError

        status, headers = answer.http_response.status_code, answer.http_response.headers
        if (status < 400 or status == 404) and "x-ms-request-id" not in headers:
            raise ServiceResponseError(
                f"HTTP {status} without x-ms-request-id: not the service, but a proxy on the way?"
            )
        self._dates.read(headers.get("Date", ""))

    def _info(self, blob: BlobProperties) -> ObjectInfo:
        with seam(self.url):
            time = blob.last_modified.timestamp()
            return ObjectInfo(blob.name[len(self._prefix) :], int(blob.size), time)

    def _blob(self, key: str) -> BlobClient:
        check_key(key)
        return self._bucket.get_blob_client(self._prefix + key)

    def _upload(
        self, key: str, data: bytes, *, over: bool, metadata: dict[str, str] | None = None
    ) -> None:
        blob = self._blob(key)
        with seam(self.url, key, conditional=not over):
            blob.upload_blob(
                data, overwrite=over, validate_content=True, metadata=metadata, **_settings(key)
            )

    def _pages(self, request: Callable[[], Iterable[T]]) -> Iterator[T]:
        """Yields the items of a listing; translates the errors of fetching its pages."""
        with seam(self.url):
            items = iter(request())
        while True:
            with seam(self.url):
                item = next(items, None)
            if item is None:
                return
            yield item


def _again_when_changed(read: Callable[[], T]) -> T:
    """Reads again if an object changed during a long read; the next read gets the new content."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Changed):
            return read()
    return read()


class _Upload(TypedDict):
    """Arguments of every upload."""

    content_settings: ContentSettings


def _settings(key: str) -> _Upload:
    from azure.storage.blob import ContentSettings

    return {"content_settings": ContentSettings(content_type=content_type(key))}
