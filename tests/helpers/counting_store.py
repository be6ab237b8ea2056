"""A store in memory that counts its requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.store import ObjectInfo


class CountingStore(MemoryStore):
    """Counts requests by kind; a listing of a bucket has a thousand objects a request.

    Attributes:
        asked: Kind -> number of requests.
        bytes_read: Bytes of the objects that were read.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: Counter[str] = Counter()
        self.bytes_read = 0

    def get(self, key: str) -> bytes:
        self.asked["get"] += 1
        data = super().get(key)
        self.bytes_read += len(data)
        return data

    def stat(self, key: str) -> ObjectInfo | None:
        self.asked["stat"] += 1
        return super().stat(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = list(super().list(prefix))
        self.asked["list"] += 1 + len(found) // 1000
        return iter(found)

    def folders(self, prefix: str = "") -> Iterator[str]:
        self.asked["folders"] += 1
        names = (info.key[len(prefix) :].partition("/") for info in super().list(prefix))
        return iter(sorted({head for head, slash, _ in names if slash}))

    def download(self, key: str, path: Path) -> None:
        self.asked["download"] += 1
        super().download(key, path)

    def take(self) -> int:
        """Requests since the last call."""
        total = self.asked.total()
        self.asked.clear()
        return total
