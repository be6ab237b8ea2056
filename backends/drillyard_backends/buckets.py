"""The common part of the stores in cloud buckets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Generic, TypeVar

from drillyard.errors import (
    CorruptObject,
    DrillyardError,
    InfrastructureError,
    StoreUnavailable,
)
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.files import replacing

T = TypeVar("T")
B = TypeVar("B")
"""The library's client of a bucket."""


_COPY = "drillyard_copy"
"""Name of the metadata with the copy of an object; Azure wants an identifier of C#."""
_COPY_BYTES = 3072
"""Largest object that is copied: Google Cloud takes 4 KiB a value, in base64 here, and both take 8
KiB of metadata an object."""


def as_metadata(data: bytes) -> dict[str, str] | None:
    """Returns the metadata that holds a copy of an object; None for one that is too large."""
    if len(data) > _COPY_BYTES:
        return None
    return {_COPY: base64.b64encode(data).decode()}


def from_metadata(metadata: Mapping[str, str] | None, md5: bytes | None) -> bytes | None:
    """Returns the copy of an object; None without one, or if it is not what the object contains.

    Metadata can outlive the content: other programs copy an object's metadata to another content,
    or write them alone.

    Args:
        metadata: As a listing returns it.
        md5: MD5 of the object's content, as the same listing returns it. None (some ways of
            writing leave it out): the reader has to get the object.
    """
    text = (metadata or {}).get(_COPY)
    if not text:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if hashlib.md5(data, usedforsecurity=False).digest() == md5 else None


class KeyTaken(Exception):
    """A precondition failed: another writer was first. It is caught inside the store."""


class BucketStore(ABC, Generic[B]):
    """Objects of a bucket under a prefix: the part that does not depend on the provider.

    The libraries repeat every write whose answer is lost, so a create that succeeded may be
    answered with "the key is taken". The store then reads the object back and compares it.

    Args:
        place: The bucket's own URL.
        prefix: Prefix of all keys below it; may be empty.

    Raises:
        UserError: The prefix leads out of the bucket.
    """

    pace_s = 2.0
    """Seconds between polls: requests cost money here, and an object takes one write a second."""

    def __init__(self, place: str, prefix: str) -> None:
        if prefix:
            check_key(prefix)
        self.url = place + (f"/{prefix}" if prefix else "")
        self._prefix = f"{prefix}/" if prefix else ""
        self._lock = threading.Lock()
        self._client: B | None = None
        self._dates = DateClock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Reads an object; its checksum is verified."""

    def put(self, key: str, data: bytes) -> None:
        """Writes an object whole, replacing an existing one."""
        self._upload(key, data, over=True)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes an object unless the key is taken; returns True if the stored object is ours."""
        try:
            self._upload(key, data, over=False)
        except KeyTaken:
            # A lost answer looks the same: the library tried again and met its own object.
            try:
                return self.get(key) == data
            except ObjectMissing:
                return self.put_if_absent(key, data)  # it was deleted in between
        return True

    def put_listed(self, key: str, data: bytes) -> None:
        """Writes an object whole, with a copy of a small one in its metadata."""
        self._upload(key, data, over=True, metadata=as_metadata(data))

    @abstractmethod
    def _upload(
        self, key: str, data: bytes, *, over: bool, metadata: dict[str, str] | None = None
    ) -> None:
        """Writes an object; raises ``KeyTaken`` if it exists and must not be replaced."""

    @abstractmethod
    def _connect(self) -> B:
        """Returns the bucket, on a client of this store alone (its answers set the clock)."""

    @property
    def _bucket(self) -> B:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client


def unread(url: str, key: str, why: str) -> StoreUnavailable:
    """The error for an answer that is not the service's, or that cannot be read.

    Nothing is concluded from it: a page of a proxy is neither an object nor an empty listing.
    """
    return StoreUnavailable(
        f"store {url} at {key or 'the bucket'}: an answer that cannot be read: {why[:200]}",
        hint="is there a proxy between this machine and the store, or a page to sign in?",
    )


@contextlib.contextmanager
def translating(
    url: str, key: str, known: Callable[[Exception], Exception | None]
) -> Iterator[None]:
    """Translates what comes out of a provider's library.

    Args:
        url: URL of the store, for messages.
        key: Key of the object; may be empty.
        known: Returns our error for one of the library; None if it is not one of the library.
    """
    try:
        yield
    except (DrillyardError, ObjectMissing):
        raise
    except Exception as error:
        # Else the library read an answer that has not the form which it expects.
        why = f"{type(error).__name__}: {first_line(error)}"
        raise known(error) or unread(url, key, why) from error


def first_line(error: Exception) -> str:
    """Returns the useful part of a library's error: its first line, without the request's URL."""
    text = str(getattr(error, "message", "") or error) or type(error).__name__
    return text.splitlines()[0][:300]


_AGREES_S = 5.0
"""Dates of one clock differ less than this: whole seconds, and the way of a slow answer."""


class DateClock:
    """A server's clock, from the ``Date`` of its answers; accurate to about a second.

    A proxy on the way may answer in the server's place, with another clock or without a date. So a
    date that contradicts the others counts only when the next one agrees with it, and without any
    date the time is this machine's.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        """The server's time minus the monotonic clock."""
        self._doubted: float | None = None
        self._gap = _gap()

    def read(self, date: str) -> None:
        """Reads the header of an answer; ignores a text that is not a date."""
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            stamp = parsedate_to_datetime(date)
            if stamp.tzinfo is None:  # "-0000": in UTC
                stamp = stamp.replace(tzinfo=UTC)
            # The server truncates to whole seconds: half a second is the best estimate.
            offset = stamp.timestamp() + 0.5 - time.monotonic()
            known = [each for each in (self._offset, self._doubted) if each is not None]
            if not known or any(abs(offset - each) < _AGREES_S for each in known):
                self._offset, self._doubted, self._gap = offset, None, _gap()
            else:
                self._doubted = offset

    def now(self, ask: Callable[[], object]) -> float:
        """Returns the time in seconds since the epoch.

        Args:
            ask: Sends a request; called if there was no answer yet, and after this machine slept
                or its clock was set: the monotonic clock may not have counted that time.
        """
        if self._offset is None or abs(_gap() - self._gap) > _AGREES_S:
            before, self._offset, self._doubted, self._gap = self._offset, None, None, _gap()
            try:
                ask()
            except InfrastructureError:
                if before is None:
                    raise
            if self._offset is None:
                self._offset = before
        if self._offset is None:
            return time.time()
        return time.monotonic() + self._offset


def _gap() -> float:
    """Returns by how much this machine's time of day is ahead of its monotonic clock."""
    return time.time() - time.monotonic()


def again_when_damaged(read: Callable[[], T]) -> T:
    """Reads again after damage: the second try succeeds unless the object itself is damaged."""
    try:
        return read()
    except CorruptObject:
        return read()


def into_place(path: Path, read: Callable[[Path], None]) -> None:
    """Fetches a file so that it appears whole or not at all.

    Args:
        path: Path of the file; its folder is created.
        read: Writes a temporary file; called a second time if the first one was damaged.
    """
    with replacing(path) as beside:
        again_when_damaged(lambda: read(beside))


def content_type(key: str) -> str:
    """Returns an object's content type, for people who open a bucket in their browser."""
    return "application/json" if key.endswith(".json") else "application/octet-stream"
