"""Every store keeps the contract; the file store also under kill -9 and a full disk."""

import os
import signal
import subprocess
import sys
import uuid

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.mailbox import open_store
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.memory import MemoryStore
from drillyard.testing.store_suite import StoreSuite


class TestFileStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return FileStore(str(tmp_path / "it's a=store"))

    @pytest.fixture
    def other(self, store):
        return open_store(store.url)

    def test_a_file_url_and_a_path_are_one_store(self, tmp_path):
        assert FileStore(f"file://{tmp_path}").root == FileStore(str(tmp_path)).root

    def test_a_full_disk_is_named_with_the_bytes_needed(self, tmp_path, monkeypatch):
        store = FileStore(str(tmp_path))
        store.put("k", b"old")

        def full(_fd):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable) as error:
            store.put("k", b"x" * 1000)
        assert "1000 bytes" in error.value.hint
        monkeypatch.undo()
        assert store.get("k") == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["k"], "the temporary file stays behind"

    @pytest.mark.heavy
    def test_a_killed_writer_leaves_the_old_bytes_or_the_new_ones(self, tmp_path):
        store = FileStore(str(tmp_path))
        script = (
            "import sys; from drillyard.mailbox.file import FileStore\n"
            "s = FileStore(sys.argv[1]); print('go', flush=True)\n"
            "n = 0\n"
            "while True:\n"
            "    s.put('e/k', bytes([n % 256]) * 3_000_000); n += 1\n"
        )
        for _ in range(5):
            with subprocess.Popen(
                [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
            ) as writer:
                writer.stdout.readline()
                before = store.stat("e/k")
                while store.stat("e/k") == before:
                    pass
                writer.send_signal(signal.SIGKILL)
            data = store.get("e/k")
            assert len(data) == 3_000_000
            assert len(set(data)) == 1
            assert [i.key for i in store.list("e/")] == ["e/k"]
        store.sweep("e")
        assert [p.name for p in (tmp_path / "e").iterdir()] == ["k"]


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self):
        url = f"memory://{uuid.uuid4()}"
        yield MemoryStore(url)
        MemoryStore.forget(url)

    @pytest.fixture
    def other(self, store):
        return open_store(store.url)
