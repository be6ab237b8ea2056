"""The port to a place that stores bytes under keys.

The contract, which ``drillyard.testing.StoreSuite`` checks on every implementation:

- A key is ``/``-separated, relative, in ``[A-Za-z0-9._=-]`` a part; ``..`` is refused.
- ``put`` is atomic: a reader sees the old bytes or the new ones, also when the writer is killed.
- ``put_if_absent`` is the only lock: of any number of racers exactly one gets True, and a racer
  whose answer was lost may call again with the same bytes and gets True if it had won.
- ``list`` is never stale: what was put before the call started is in it.
- ``delete`` of a missing object is success.
- What a store may leave out is in ``ListsFolders``, ``ListsKeys``, ``ListsContents``,
  ``HasStamps`` and ``HasPace``.
- ``ObjectInfo.updated_at`` and ``now`` are the store's own clock; liveness compares only those.
- Everything but a missing key and a lost race is ``StoreUnavailable`` (or a subclass), with the
  number of bytes needed where the place is full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from drillyard.registry import load


class ObjectMissing(KeyError):
    """No object has this key. Not an error of the tree: callers expect it."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says about an object."""

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


@runtime_checkable
class ListsFolders(Protocol):
    """A store that can list folders without listing every object in them."""

    def folders(self, prefix: str = "") -> Iterable[str]:
        """Names of the folders directly below a prefix, which is empty or ends in ``/``."""


@runtime_checkable
class ListsKeys(Protocol):
    """A store that lists keys faster than it lists objects with their sizes and times."""

    def keys(self, prefix: str) -> Iterable[str]:
        """Every key that starts with ``prefix``, at any depth, sorted."""


@runtime_checkable
class ListsContents(Protocol):
    """A store whose listing can return the bytes of small objects.

    One listing then tells the progress of hundreds of runs, instead of a request for each.
    """

    def put_listed(self, key: str, data: bytes) -> None:
        """Like ``put``; ``contents`` returns the bytes unless they are too many for a listing."""

    def contents(self, prefix: str) -> Iterator[tuple[ObjectInfo, bytes | None]]:
        """Like ``list``; with the bytes, or None where the reader has to get the object."""


@runtime_checkable
class HasStamps(Protocol):
    """A store that can tell cheaply whether a folder changed."""

    def stamp(self, prefix: str) -> str | None:
        """See the function ``stamp``."""


@runtime_checkable
class HasPace(Protocol):
    """A store that should not be asked too often."""

    pace_s: float
    """See the function ``pace``."""


def folders(store: Store, prefix: str = "") -> list[str]:
    """Names directly below a prefix, sorted.

    Args:
        store: Where. A store without ``ListsFolders`` lists every object below the prefix.
        prefix: Empty, or ending in ``/``.
    """
    if isinstance(store, ListsFolders):
        return sorted(store.folders(prefix))
    keys = (info.key[len(prefix) :] for info in store.list(prefix))
    return sorted({key.partition("/")[0] for key in keys if "/" in key})


def keys(store: Store, prefix: str) -> Iterator[str]:
    """Every key that starts with a prefix, sorted.

    Frequent polls use this instead of ``list``: on a disk, sizes and times cost one system call
    for each object, which is most of a listing.

    Args:
        store: Where. A store without ``ListsKeys`` lists the objects.
        prefix: See ``Store.list``.
    """
    if hasattr(store, "keys"):  # as in `has_stamps`
        return iter(store.keys(prefix))
    return (info.key for info in store.list(prefix))


def put_listed(store: Store, key: str, data: bytes) -> None:
    """Write an object whole, for readers who list it (see ``ListsContents``)."""
    if isinstance(store, ListsContents):
        store.put_listed(key, data)
    else:
        store.put(key, data)


def contents(store: Store, prefix: str) -> Iterator[tuple[ObjectInfo, bytes | None]]:
    """Every object whose key starts with a prefix, sorted by key, with its bytes if listed.

    Args:
        store: Where. A store without ``ListsContents`` gives no bytes.
        prefix: See ``Store.list``.
    """
    if isinstance(store, ListsContents):
        return store.contents(prefix)
    return ((info, None) for info in store.list(prefix))


def stamp(store: Store, prefix: str) -> str | None:
    """A text that changes whenever a name directly below a prefix is added or removed.

    A reader that has seen the same stamp before does not need to list again. With thousands of
    names, the listing is most of the cost of a poll.

    Args:
        store: Where. A store without ``HasStamps`` gives None.
        prefix: Ending in ``/``.

    Returns:
        The stamp, to be read before the listing; None if the reader has to list.
    """
    found: str | None = store.stamp(prefix) if hasattr(store, "stamp") else None
    return found


def has_stamps(store: Store) -> bool:
    """Returns whether it is a ``HasStamps``.

    Every poll asks; ``isinstance`` of a protocol takes Python 3.11 ten times longer.
    """
    return hasattr(store, "stamp")


def pace(store: Store) -> float:
    """The shortest time between two polls of a store, or two writes of one object, in seconds.

    A disk has no such limit (0). A bucket charges for each request and accepts one write of an
    object per second; its class has the attribute ``pace_s``.
    """
    return float(store.pace_s) if isinstance(store, HasPace) else 0.0


def open_store(url: str) -> Store:
    """Open the store that a URL names; a plain path is a folder.

    Args:
        url: ``./drillyard-runs``, ``/data/runs``, ``file:///data/runs``, ``memory://name``,
            ``gs://bucket/prefix``: the scheme is looked up in the registry (kind ``stores``).

    Raises:
        PluginError: Nothing is registered for the scheme.
    """
    scheme = urlsplit(url).scheme or "file"
    store: Store = load("stores", scheme)(url)
    return store
