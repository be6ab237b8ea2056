"""A store in a container of Azure Blob Storage: ``az://account/container/prefix``.

Listings are always fresh.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from drillyard.errors import StoreUnavailable, UserError
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard_backends.azure.login import credential
from drillyard_backends.azure.storage_errors import Changed, seam
from drillyard_backends.buckets import (
    BucketStore,
    KeyTaken,
    again_when_damaged,
    content_type,
    into_place,
)

T = TypeVar("T")
_URL = re.compile(
    r"az://(?P<account>[a-z0-9]{3,24})/(?P<container>[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){2,62})"
    r"(?:/(?P<prefix>.*))?\Z"
)
CHUNK = 4 << 20
"""Of what goes up or down in pieces: the largest whose checksum the service computes."""
RETRIES = 6
TRIES = 3
"""Of a read that meets a write."""
_TIMEOUT_S = (10, 60)
NO_FOLDERS = (
    "has a hierarchical namespace: its listings show folders among the blobs",
    "set `account` and `container` to another storage account, made without "
    "--enable-hierarchical-namespace",
)
"""Why such an account is refused, and what to do."""


class BlobStore(BucketStore):
    """Blobs of a container under a prefix.

    Args:
        url: ``az://account/container`` or ``az://account/container/prefix``.

    Raises:
        UserError: Not such a URL, or a prefix that leads out of its place.
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
        """Read an object; its checksum is verified."""
        blob = self._blob(key)

        def read() -> bytes:
            with seam(self.url, key):
                return bytes(blob.download_blob(validate_content=True).readall())

        return again_when_damaged(lambda: _again_when_changed(read))

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object, or None."""
        blob = self._blob(key)
        try:
            with seam(self.url, key):
                found = blob.get_blob_properties()
        except ObjectMissing:
            return None
        return ObjectInfo(key, int(found.size), found.last_modified.timestamp())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, sorted by key."""
        cut = len(self._prefix)
        for blob in self._pages(lambda c: c.list_blobs(name_starts_with=self._prefix + prefix)):
            yield ObjectInfo(blob.name[cut:], int(blob.size), blob.last_modified.timestamp())

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that starts with a prefix, sorted."""
        cut = len(self._prefix)
        whole = self._prefix + prefix
        for name in self._pages(lambda c: c.list_blob_names(name_starts_with=whole)):
            yield name[cut:]

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Names directly below a prefix (which ends with ``/`` or is empty), without the rest."""
        whole = self._prefix + prefix
        walk = self._pages(lambda c: c.walk_blobs(name_starts_with=whole, delimiter="/"))
        yield from sorted(one.name[len(whole) : -1] for one in walk if one.name.endswith("/"))

    def delete(self, key: str) -> None:
        """Remove an object; missing is success."""
        blob = self._blob(key)
        with contextlib.suppress(ObjectMissing), seam(self.url, key):
            blob.delete_blob(delete_snapshots="include")

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file; a large one in pieces that are repeated one by one."""
        blob = self._blob(key)
        with path.open("rb") as file, seam(self.url, key):
            blob.upload_blob(file, overwrite=True, validate_content=True, **_settings(key))

    def download(self, key: str, path: Path) -> None:
        """Read an object into a file, atomically; its checksum is verified."""
        blob = self._blob(key)

        def read(temporary: Path) -> None:
            with seam(self.url, key), temporary.open("wb") as file:
                blob.download_blob(validate_content=True).readinto(file)

        into_place(path, lambda temporary: _again_when_changed(lambda: read(temporary)))

    def now(self) -> float:
        """The service's clock: the date of its newest answer, and what passed since."""
        return self._dates.now(lambda: self.stat("-no-such-key"))

    def make_container(self) -> bool:
        """Make the container unless it is there; True when this call made it.

        Raises:
            StoreUnavailable: It is not there and cannot be made.
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
        """Refuse an account that has real folders, found out by doing it: no right is needed.

        Raises:
            UserError: It has: nobody can read a folder that a listing shows.
        """
        folder = f"canary-{secrets.token_hex(6)}"
        leaf = f"{folder}/leaf"
        self.put(leaf, b"1")
        try:
            shown = set(self.keys(folder))
        finally:
            self.delete(leaf)
        if folder in shown:
            with contextlib.suppress(StoreUnavailable):
                self.delete(folder)
            raise UserError(
                f"the storage account {self.account} {NO_FOLDERS[0]}", hint=NO_FOLDERS[1]
            )

    # -- inside -------------------------------------------------------------------------------

    def _connect(self) -> Any:
        with seam(self.url):
            import requests
            from azure.core.exceptions import ClientAuthenticationError
            from azure.core.pipeline.transport import RequestsTransport
            from azure.storage.blob import ContainerClient, ExponentialRetry

            class Tries(ExponentialRetry):  # type: ignore[misc, unused-ignore]
                """Not for a refused sign-in: azure-identity has tried that again by itself."""

                def increment(self, *args: Any, **named: Any) -> bool:
                    refused = isinstance(named.get("error"), ClientAuthenticationError)
                    return not refused and bool(super().increment(*args, **named))

            # A worker's threads share one client; the default keeps ten connections.
            session = requests.Session()
            session.mount("https://", requests.adapters.HTTPAdapter(4, 32))
            return ContainerClient(
                f"https://{self.account}.blob.core.windows.net",
                self.container,
                credential(),
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
                raw_response_hook=self._read_clock,
            )

    def _read_clock(self, answer: Any) -> None:
        self._dates.read(answer.http_response.headers.get("Date", ""))

    def _blob(self, key: str) -> Any:
        check_key(key)
        return self._bucket.get_blob_client(self._prefix + key)

    def _upload(self, key: str, data: bytes, *, over: bool) -> None:
        blob = self._blob(key)
        with seam(self.url, key, conditional=not over):
            blob.upload_blob(data, overwrite=over, validate_content=True, **_settings(key))

    def _pages(self, ask: Any) -> Iterator[Any]:
        """What a listing yields; its pages are fetched inside the seam."""
        with seam(self.url):
            found = iter(ask(self._bucket))
        step = partial(next, found, None)
        while True:
            with seam(self.url):
                one = step()
            if one is None:
                return
            yield one


def _again_when_changed(read: Callable[[], T]) -> T:
    """A long read of what somebody writes meanwhile: the next one gets the new content."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Changed):
            return read()
    return read()


def _settings(key: str) -> dict[str, Any]:
    from azure.storage.blob import ContentSettings

    return {"content_settings": ContentSettings(content_type=content_type(key))}
