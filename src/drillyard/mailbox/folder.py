"""A folder of a store as records: read, written, and created once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from drillyard.errors import CorruptObject, NewerVersion
from drillyard.mailbox.records import Record
from drillyard.mailbox.store import ObjectInfo, ObjectMissing, Store, contents, put_listed

R = TypeVar("R", bound=Record)


class Folder:
    """The folder of an experiment in a store, as records.

    Args:
        store: The place.
        experiment: The experiment's name: the folder in it.
    """

    def __init__(self, store: Store, experiment: str) -> None:
        self.store = store
        self.experiment = experiment

    def key(self, path: str) -> str:
        """The store's key of a path inside this experiment."""
        return f"{self.experiment}/{path}"

    def read(self, path: str, kind: type[R]) -> R | None:
        """A record, or None."""
        try:
            return self.record_at(self.key(path), kind)
        except ObjectMissing:
            return None

    def record_at(self, key: str, kind: type[R]) -> R:
        """The record at a store's key.

        Raises:
            ObjectMissing: There is none.
            CorruptObject, NewerVersion: It cannot be read; with its address.
        """
        try:
            return kind.from_bytes(self.store.get(key))
        except (CorruptObject, NewerVersion) as error:
            raise type(error)(f"{self.store.url}/{key}: {error}", hint=error.hint) from error

    def must_write(self) -> None:
        """Check that this process may write; see ``Fenced``."""

    def write(self, path: str, record: Record, listed: bool = False) -> None:
        """Write a record over what is there. Only its one writer calls this.

        Args:
            path: Inside this experiment.
            record: The record.
            listed: Readers list its folder every few seconds (see ``ListsContents``).
        """
        if listed:
            put_listed(self.store, self.key(path), record.to_bytes())
        else:
            self.store.put(self.key(path), record.to_bytes())

    def listed(self, prefix: str, kind: type[R]) -> Iterator[tuple[ObjectInfo, R | None]]:
        """One listing: each object, with its record where the listing returns it.

        None stands also for a damaged copy: reading the object itself says what is wrong.
        """
        for info, data in contents(self.store, self.key(prefix)):
            record = None
            if data is not None:
                with contextlib.suppress(CorruptObject, NewerVersion):
                    record = kind.from_bytes(data)
            yield info, record

    def create(self, path: str, record: Record) -> bool:
        """Write a record unless there is one; True when it is ours."""
        return self.store.put_if_absent(self.key(path), record.to_bytes())
