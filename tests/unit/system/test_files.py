"""Files that are written whole, and locks that end with their process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.errors import InfrastructureError
from drillyard.system.files import PRIVATE, locked, replacing, write_file

HOLDER = """
import sys, time
from pathlib import Path
from drillyard.system.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_file_is_replaced_whole_and_a_failure_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file.json"
    assert write_file(path, "first").read_text() == "first"
    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        write_file(path, b"second")
    assert path.read_text() == "first" and [p.name for p in path.parent.iterdir()] == [path.name]
    write_file(path, b"third", PRIVATE)
    assert path.read_bytes() == b"third" and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_synced_file_is_on_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("folder" if folder else "file")
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        steps.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_file(tmp_path / "intent.json", "{}", sync=True)
    assert steps == ["file", "name", "folder"]


def test_a_folder_takes_its_place_when_it_is_complete(tmp_path):
    target = tmp_path / "code"
    with pytest.raises(ValueError, match="broken"), replacing(target) as folder:
        folder.mkdir()
        (folder / "half").touch()
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []
    with replacing(target) as folder:
        folder.mkdir()
        (folder / "whole").touch()
    assert [p.name for p in target.iterdir()] == ["whole"]


@pytest.mark.heavy  # starts a process
def test_a_lock_is_refused_while_another_process_holds_it_and_free_when_it_is_killed(tmp_path):
    path, busy = tmp_path / "locks" / "lease.lock", InfrastructureError("held")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(InfrastructureError, match="held"), locked(path, 0.0, busy):
            pass
        with pytest.raises(TimeoutError), locked(path, 0.05):
            pass
        holder.kill()
    with locked(path, 60.0, forget=True):
        assert path.exists()
    assert not path.exists()
