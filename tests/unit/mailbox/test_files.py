"""Files of results that another process still writes to."""

from __future__ import annotations

import os
from pathlib import Path

from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.files import save_file, verify_file

SECOND = 1_772_370_000 * 10**9
"""A time with whole seconds, in nanoseconds."""


class Growing(FileStore):
    """A store for which a local file grows just before it is read."""

    grows: Path
    times = 1

    def upload(self, key: str, path: Path) -> None:
        if self.times:
            self.times -= 1
            with open(self.grows, "ab") as file:
                file.write(b"one more line\n")
        super().upload(key, path)


def test_a_file_that_grows_meanwhile_has_the_hash_of_what_is_stored(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"first line\n")
    store = Growing(str(tmp_path / "store"))
    store.grows = log
    for times in (1, 100):  # and it never stops growing
        store.times = times
        entry = save_file(Mailbox(store, "e"), "a/log.txt", log)
        verify_file(Mailbox(store, "e"), entry)
        assert log.read_bytes().startswith(store.get("e/a/log.txt"))


class Rewritten(FileStore):
    """A file of the same size is written within the second that its time shows."""

    source: Path
    times = 1

    def upload(self, key: str, path: Path) -> None:
        if self.times:
            self.times -= 1
            self.source.write_bytes(b"abcde")
            os.utime(self.source, ns=(SECOND, SECOND))
        super().upload(key, path)


def test_a_write_that_the_time_of_a_file_does_not_show_is_noticed(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"12345")
    os.utime(log, ns=(SECOND, SECOND))
    store = Rewritten(str(tmp_path / "store"))
    store.source = log
    entry = save_file(Mailbox(store, "e"), "a/log.txt", log)
    verify_file(Mailbox(store, "e"), entry)
    assert store.get("e/a/log.txt") == b"abcde"
