"""The simulated store: the contract of ``drillyard.mailbox.store``, and a network that fails.

A reader sees what was written before its request reached the store. Every request takes time, may
fail before or after its effect, and its client gives up after a while without the service.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path

from drillyard.errors import StoreUnavailable
from drillyard.mailbox.keys import check_key
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from tests.simulation.patches import world
from tests.simulation.world import EPOCH


class Objects:
    """The objects at the service."""

    def __init__(self) -> None:
        self.data: dict[str, tuple[bytes, float]] = {}
        self._keys: list[str] = []

    def put(self, key: str, data: bytes, stamp: float) -> None:
        """Write an object."""
        if key not in self.data:
            bisect.insort(self._keys, key)
        self.data[key] = (bytes(data), stamp)

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        if self.data.pop(key, None) is not None:
            del self._keys[bisect.bisect_left(self._keys, key)]

    def under(self, prefix: str) -> list[str]:
        """Keys with a prefix, sorted."""
        keys = self._keys
        first = last = bisect.bisect_left(keys, prefix)
        while last < len(keys) and keys[last].startswith(prefix):
            last += 1
        return keys[first:last]


class SimStore:
    """A client of the simulated store.

    Args:
        url: ``sim://name``.
    """

    def __init__(self, url: str = "sim://store") -> None:
        self.url = url

    @property
    def pace_s(self) -> float:
        """See ``HasPace``."""
        return world().plan.pace_s

    @property
    def _objects(self) -> dict[str, tuple[bytes, float]]:
        return world().objects.data

    def get(self, key: str) -> bytes:
        """Read an object."""
        check_key(key)

        def read() -> bytes:
            try:
                return self._objects[key][0]
            except KeyError:
                raise ObjectMissing(key) from None

        return _do("get", key, read)

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        check_key(key)

        def write() -> None:
            world().objects.put(key, data, self._stamp())
            world().after_change(key)

        _do("put", key, write, changes=True)

    def put_listed(self, key: str, data: bytes) -> None:
        """Write an object whose bytes a listing returns."""
        self.put(key, data)

    def contents(self, prefix: str) -> Iterator[tuple[ObjectInfo, bytes | None]]:
        """Every object under a prefix, as of one moment, with its bytes."""

        def look() -> list[tuple[ObjectInfo, bytes | None]]:
            found = self._objects
            return [
                (ObjectInfo(key, len(found[key][0]), found[key][1]), found[key][0])
                for key in world().objects.under(prefix)
            ]

        yield from _do("list", prefix, look)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless it is there."""
        check_key(key)

        def create() -> bool:
            there = self._objects.get(key)
            if there is not None:
                return there[0] == data
            world().objects.put(key, data, self._stamp())
            world().after_change(key)
            return True

        return _do("create", key, create, changes=True)

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object."""
        check_key(key)

        def look() -> ObjectInfo | None:
            there = self._objects.get(key)
            return None if there is None else ObjectInfo(key, len(there[0]), there[1])

        return _do("stat", key, look)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object under a prefix, as of one moment."""

        def look() -> list[ObjectInfo]:
            found = self._objects
            return [
                ObjectInfo(key, len(found[key][0]), found[key][1])
                for key in world().objects.under(prefix)
            ]

        yield from _do("list", prefix, look)

    def delete(self, key: str) -> None:
        """Remove an object."""
        check_key(key)

        def remove() -> None:
            world().objects.remove(key)
            world().after_change(key)

        _do("delete", key, remove, changes=True)

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file."""
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        """Read an object into a file."""
        data = self.get(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def now(self) -> float:
        """The store's clock."""
        return self._stamp()

    @staticmethod
    def _stamp() -> float:
        return EPOCH + world().time


def _do(verb: str, key: str, happen, *, changes: bool = False):  # type: ignore[no-untyped-def]
    now = world()
    latency = now.plan.latency_s * (0.5 + now.random.random())
    if now.random.random() < now.plan.slow_answers:
        latency += now.random.choice([0.5, 2.0, 4.0])  # a slow answer
    return now.effect(
        "store",
        f"{verb} {key}",
        happen,
        latency_s=latency,
        changes=changes,
        fail=lambda why: StoreUnavailable(f"simulated store: {why} ({verb} {key})"),
    )
