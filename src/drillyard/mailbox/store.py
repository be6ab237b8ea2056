"""The port to a place that keeps bytes under keys.

The contract, which ``drillyard.testing.StoreSuite`` checks on every implementation:

- A key is ``/``-separated, relative, in ``[A-Za-z0-9._=-]`` a part; ``..`` is refused.
- ``put`` is atomic: a reader sees the old bytes or the new ones, also when the writer is killed.
- ``put_if_absent`` is the only lock: of any number of racers exactly one gets True, and a racer
  whose answer was lost may call again with the same bytes and is told True if it was his.
- ``list`` is never stale: what was put before the call started is in it.
- ``delete`` of what is not there is success.
- ``folders(prefix)``, which a store may leave out, names what is directly below a prefix.
- ``keys(prefix)``, which it may leave out too, is ``list`` without sizes and times.
- ``ObjectInfo.updated_at`` and ``now`` are the store's own clock; liveness compares only those.
- Everything but a missing key and a lost race is ``StoreUnavailable`` (or a subclass), with the
  number of bytes needed where the place is full.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

from drillyard.registry import load


class ObjectMissing(KeyError):
    """No object has this key. Not an error of the tree: callers expect it."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing tells of an object."""

    key: str
    size: int
    updated_at: float
    """Seconds since the epoch by the store's clock."""


class Store(Protocol):
    """Bytes under keys."""

    url: str

    def get(self, key: str) -> bytes:
        """Read an object.

        Raises:
            ObjectMissing: No such key.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what is there."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; True when it is ours."""

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object, or None."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, at any depth, sorted by key."""

    def delete(self, key: str) -> None:
        """Remove an object; missing is success."""

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file, atomically, without holding it in memory."""

    def download(self, key: str, path: Path) -> None:
        """Read an object into a file, atomically.

        Raises:
            ObjectMissing: No such key.
        """

    def now(self) -> float:
        """The store's clock, seconds since the epoch."""


def folders(store: Store, prefix: str = "") -> list[str]:
    """Names directly below a prefix, sorted; what a store cannot list quickly is listed whole.

    Args:
        store: Its ``folders(prefix)`` is asked where it has one.
        prefix: Empty, or ending in ``/``.
    """
    quick = getattr(store, "folders", None)
    if quick is not None:
        return sorted(quick(prefix))
    keys = (info.key[len(prefix) :] for info in store.list(prefix))
    return sorted({key.partition("/")[0] for key in keys if "/" in key})


def keys(store: Store, prefix: str) -> Iterator[str]:
    """Every key that starts with a prefix, sorted: what is polled often needs no more.

    On a disk, sizes and times cost a system call an object, which is most of a listing.

    Args:
        store: Its ``keys(prefix)`` is asked where it has one.
        prefix: As of ``list``.
    """
    quick = getattr(store, "keys", None)
    if quick is not None:
        yield from quick(prefix)
        return
    for info in store.list(prefix):
        yield info.key


def stamp(store: Store, prefix: str) -> str | None:
    """What changes with every name that comes or goes directly below a prefix.

    Who has seen the same stamp before need not list again: of thousands of names that is most of
    what a look costs.

    Args:
        store: Its ``stamp(prefix)`` is asked where it has one.
        prefix: Ending in ``/``.

    Returns:
        The stamp, to be taken before the listing; None: list.
    """
    quick = getattr(store, "stamp", None)
    return quick(prefix) if quick is not None else None


def pace(store: Store) -> float:
    """Seconds between two looks at a store, or two writes of one object, at the least.

    A disk is free (0). A bucket charges for each look and takes one write of an object a second;
    its class says so with the attribute ``pace_s``.
    """
    return float(getattr(store, "pace_s", 0.0))


def open_store(url: str) -> Store:
    """Open the store that a URL names; a plain path is a folder.

    Args:
        url: ``./drillyard-runs``, ``/data/runs``, ``file:///data/runs``, ``memory://name``,
            ``gs://bucket/prefix``: the scheme is looked up in the registry (kind ``stores``).

    Raises:
        PluginError: Nothing is registered for the scheme.
    """
    scheme = urlsplit(url).scheme or "file"
    factory = load("stores", scheme)
    return cast(Store, factory(url))
