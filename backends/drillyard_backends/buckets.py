"""What the stores in a cloud's buckets have in common."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

from drillyard.errors import CorruptObject

T = TypeVar("T")


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
