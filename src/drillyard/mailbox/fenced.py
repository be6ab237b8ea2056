"""A mailbox that writes only while its user is allowed to: the fence of a superseded driver."""

from __future__ import annotations

from collections.abc import Callable

from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.records import Record


class Fenced(Mailbox):
    """A mailbox whose writes are checked first; reads are not.

    A driver may be suspended at any moment, and continue after another one took over. The check
    is one listing for each write, so that only few requests are left in which both may write:
    those of one suspended call. Records that both may create are put-if-absent.

    Args:
        mailbox: The experiment.
        may_write: Raises if this process may no longer write.
    """

    def __init__(self, mailbox: Mailbox, may_write: Callable[[], None]) -> None:
        super().__init__(mailbox.store, mailbox.experiment)
        self._may_write = may_write

    def must_write(self) -> None:
        """Check that this process may write."""
        self._may_write()

    def write(self, path: str, record: Record, listed: bool = False) -> None:
        """Check, then write a record over what is there."""
        self._may_write()
        super().write(path, record, listed)

    def create(self, path: str, record: Record) -> bool:
        """Check, then write a record unless there is one."""
        self._may_write()
        return super().create(path, record)
