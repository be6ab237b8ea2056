"""A store in this process: for tests, and the reference of the contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard.system.clock import SYSTEM, Clock


class _Place:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, float]] = {}


class MemoryStore:
    """Objects in a dictionary, shared by all stores of the same name in this process.

    Args:
        url: ``memory://name``.
        clock: Stamps the objects.
    """

    _places: ClassVar[dict[str, _Place]] = {}
    _places_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, url: str = "memory://", clock: Clock = SYSTEM) -> None:
        self.url = url
        self._clock = clock
        with self._places_lock:
            self._place = self._places.setdefault(url, _Place())

    def get(self, key: str) -> bytes:
        """Read an object."""
        try:
            return self._place.objects[check_key(key)][0]
        except KeyError:
            raise ObjectMissing(key) from None

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what is there."""
        with self._place.lock:
            self._place.objects[check_key(key)] = (bytes(data), self.now())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; True when it is ours."""
        with self._place.lock:
            there = self._place.objects.get(check_key(key))
            if there is not None:
                return there[0] == data
            self._place.objects[key] = (bytes(data), self.now())
            return True

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object, or None."""
        there = self._place.objects.get(check_key(key))
        return None if there is None else ObjectInfo(key, len(there[0]), there[1])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, sorted by key."""
        with self._place.lock:
            items = sorted(self._place.objects.items())
        for key, (data, updated_at) in items:
            if key.startswith(prefix):
                yield ObjectInfo(key, len(data), updated_at)

    def delete(self, key: str) -> None:
        """Remove an object; missing is success."""
        with self._place.lock:
            self._place.objects.pop(check_key(key), None)

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file."""
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        """Read an object into a file."""
        data = self.get(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def now(self) -> float:
        """The clock that stamps the objects."""
        return self._clock.now()

    @classmethod
    def forget(cls, url: str) -> None:
        """Drop the objects of a store (tests clean up with it)."""
        with cls._places_lock:
            cls._places.pop(url, None)
