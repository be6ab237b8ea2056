"""Files of results that another process still writes to."""

from __future__ import annotations

from pathlib import Path

from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.files import save_file, verify_file


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


def test_a_file_that_grows_meanwhile_has_the_hash_of_what_is_stored(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"first line\n")
    store = Growing(str(tmp_path / "store"))
    store.grows = log
    for times in (1, 100):  # and it never stops growing
        store.times = times
        entry = save_file(Mailbox(store, "e"), "a/log.txt", log)
        verify_file(Mailbox(store, "e"), entry)
        assert log.read_bytes().startswith(store.get("e/a/log.txt"))
