"""A folder that several machines share: whose files are half written, and whose clock counts."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drillyard.checks.storage import disk
from drillyard.findings import Severity
from drillyard.mailbox.file import FileStore
from drillyard.system import machine_identity
from tests.helpers.no_hard_links import refusing_links
from tests.helpers.processes import run_process

DAY = 86_400.0
HALF_WRITTEN = """
import os, sys, time
from drillyard.mailbox import file
from drillyard.system import machine_identity
from tests.helpers.no_hard_links import refusing_links
machine_identity.boot_id = lambda: sys.argv[2]
def stall(path, data):
    with open(path, "xb") as half:
        half.write(data[:1])
        half.flush()
        print(path, flush=True)
        sys.stdin.readline()
file._write = stall
file.FileStore(sys.argv[1]).put("e/k", b"whole")
"""


def half_written(folder: Path, boot: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that stands in the middle of a write, on a machine of that boot."""
    writer = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITTEN, str(folder), boot],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return writer, Path(writer.stdout.readline().strip())


@pytest.mark.heavy
@pytest.mark.parametrize("mine", [True, False])
def test_only_dead_writers_of_this_very_system_are_swept(tmp_path, mine):
    """Finding L6: another machine's writer has a pid that is no process here."""
    boot = machine_identity.boot_id() if mine else "another machine"
    writer, path = half_written(tmp_path, boot)
    store = FileStore(str(tmp_path))
    with writer:
        assert store.sweep("e") == 0, "a living writer"
        writer.kill()
        writer.wait()
        assert path.exists()
        assert store.sweep("e") == (1 if mine else 0)
        assert path.exists() is not mine


@pytest.mark.heavy
def test_what_nobody_touched_for_a_day_is_swept_whoever_wrote_it(tmp_path):
    writer, path = half_written(tmp_path, "another machine")
    writer.kill()
    with writer:
        pass
    named_as_before = path.with_name(".tmp-1-abcdef")
    named_as_before.write_bytes(b"")
    store = FileStore(str(tmp_path))
    assert store.sweep("e") == 0
    for one in (path, named_as_before):
        os.utime(one, (time.time() - DAY - 60.0,) * 2)
    assert store.sweep("e") == 2


def test_the_clock_is_that_of_the_disk(tmp_path, monkeypatch):
    """Finding L6: with a wrong clock on this machine, a heartbeat of now is still of now."""
    real = time.time
    FileStore(str(tmp_path)).put("beat", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() + 3600.0)
        store = FileStore(str(tmp_path))
        age = store.now() - store.stat("beat").updated_at
        assert abs(age) < 60.0
        # The machine's clock is set right while the store is open.
        patched.setattr(time, "time", real)
        assert abs(store.now() - store.stat("beat").updated_at) < 60.0


def test_asking_for_the_time_leaves_no_file_and_is_cheap(tmp_path):
    store = FileStore(str(tmp_path))
    store.put("k", b"1")
    before = os.stat(tmp_path).st_mtime_ns
    store.now()
    assert [path.name for path in tmp_path.iterdir()] == ["k"]
    asked = os.stat(tmp_path).st_mtime_ns
    assert asked > before
    for _ in range(100):
        store.now()
    assert os.stat(tmp_path).st_mtime_ns == asked


def test_where_nothing_can_be_written_the_time_is_this_machines(tmp_path):
    store = FileStore(str(tmp_path / "not there"))
    assert abs(store.now() - time.time()) < 60.0
    assert not store.root.exists(), "asking for the time makes no store"


# -- a file system without hard links -------------------------------------------------------------


def without_links(error: int, program: str, *arguments: str) -> str:
    """Run a program for which the kernel refuses hard links, as exFAT and gcsfuse do."""
    command = [sys.executable, "-c", refusing_links(error) + program, *arguments]
    done = run_process(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


CREATE = """
import sys
from drillyard.errors import StoreUnavailable
from drillyard.mailbox.file import FileStore
store = FileStore(sys.argv[1])
store.put("plain", b"works")
try:
    store.put_if_absent("claim", b"token")
except StoreUnavailable as error:
    print(error.message)
    print(error.hint)
"""
CHECK = """
import sys
from drillyard.checks.storage import disk
for finding in disk(sys.argv[1]):
    print(finding.severity.name, finding.message)
    print(finding.fix)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_a_claim_where_hard_links_are_refused_says_what_to_do(tmp_path, error):
    message, hint = without_links(error, CREATE, str(tmp_path)).splitlines()
    assert "no hard links" in hint and "--store" in hint
    assert "claim" in message
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


@pytest.mark.heavy
@pytest.mark.parametrize("there", [True, False])
def test_check_refuses_a_folder_without_hard_links(tmp_path, there):
    folder = tmp_path if there else tmp_path / "to" / "be made"
    said, fix = without_links(errno.EPERM, CHECK, str(folder)).splitlines()
    assert said.startswith("ERROR") and "hard links" in said
    assert "--store" in fix
    assert list(tmp_path.iterdir()) == [], "nothing is left of the look"


def test_check_finds_nothing_wrong_with_a_folder_that_has_them(tmp_path):
    assert [finding.severity for finding in disk(str(tmp_path))] == [Severity.OK]
    assert list(tmp_path.iterdir()) == []
