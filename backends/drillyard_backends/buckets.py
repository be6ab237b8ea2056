"""What the stores in a cloud's buckets have in common."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from drillyard.errors import CorruptObject
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectMissing

T = TypeVar("T")


class KeyTaken(Exception):
    """A precondition failed: somebody was first. Never leaves the store."""


class BucketStore(ABC):
    """Objects of a bucket under a prefix: what does not depend on whose bucket it is.

    Every write of the libraries is repeated when its answer is lost, so a create that won may be
    told that the key is taken; what is there is then read back and compared.

    Args:
        place: The bucket's own URL.
        prefix: Below it; may be empty.

    Raises:
        UserError: A prefix that leads out of its place.
    """

    pace_s = 2.0
    """Polling and heartbeats cost money here, and an object takes one write a second."""

    def __init__(self, place: str, prefix: str) -> None:
        if prefix:
            check_key(prefix)
        self.url = place + (f"/{prefix}" if prefix else "")
        self._prefix = f"{prefix}/" if prefix else ""
        self._lock = threading.Lock()
        self._made: Any = None
        self._dates = DateClock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Read an object; its checksum is verified."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what is there."""
        self._upload(key, data, over=True)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; True when it is ours."""
        try:
            self._upload(key, data, over=False)
        except KeyTaken:
            # Also what a lost answer looks like: the library asked again and met its own object.
            try:
                return self.get(key) == data
            except ObjectMissing:
                return self.put_if_absent(key, data)  # it was deleted in between
        return True

    @abstractmethod
    def _upload(self, key: str, data: bytes, *, over: bool) -> None:
        """Write an object; ``KeyTaken`` where it is there and is not to be written over."""

    @abstractmethod
    def _connect(self) -> Any:
        """The bucket, on a client of this store alone (whose answers tell the time)."""

    @property
    def _bucket(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made


def first_line(error: Exception) -> str:
    """What people need of a library's error: its first line, without the request's address."""
    text = str(getattr(error, "message", "") or error) or type(error).__name__
    return text.splitlines()[0][:300]


class DateClock:
    """A server's clock, by the ``Date`` of its newest answer; right to about a second."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def read(self, date: str) -> None:
        """Take in the header of an answer; what is no date changes nothing."""
        with contextlib.suppress(TypeError, ValueError):
            stamp = parsedate_to_datetime(date)
            # Cut to whole seconds by the server: half a second is the best guess.
            self._offset = stamp.timestamp() + 0.5 - time.monotonic()

    def now(self, ask: Callable[[], object]) -> float:
        """Seconds since the epoch.

        Args:
            ask: Sends some request, where there was no answer yet.
        """
        if self._offset is None:
            ask()
        return time.monotonic() + (self._offset or 0.0)


def again_when_damaged(read: Callable[[], T]) -> T:
    """Damage on the way is over at the second try; damage in the bucket is not."""
    try:
        return read()
    except CorruptObject:
        return read()


def into_place(path: Path, read: Callable[[Path], None]) -> None:
    """Fetch a file so that it appears whole or not at all.

    Args:
        path: Where it is to be; its folder is made.
        read: Writes a temporary file beside it; called twice when the first was damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        again_when_damaged(lambda: read(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def content_type(key: str) -> str:
    """Of an object, for people who look at a bucket in their browser."""
    return "application/json" if key.endswith(".json") else "application/octet-stream"
