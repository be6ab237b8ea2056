"""Temporary folders of processes that were killed are found again and swept."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest

from drillyard.system.scratch import RUNTIME, own_folder, short_folder, temporary_below
from tests.helpers.processes import run_process

CHILD = """
import os, signal, sys
from drillyard.system.scratch import own_folder
with own_folder("resume") as folder:
    (folder / "code.py").write_text("x")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.heavy
def test_what_a_killed_process_left_is_swept(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    done = run_process([sys.executable, "-c", CHILD])
    left = Path(done.stdout.strip())
    assert done.returncode == -9 and (left / "code.py").exists()
    (tmp_path / "dy-0123456789").mkdir()  # a lease's
    with own_folder("resume") as first:
        assert not left.exists()
        with pytest.raises(FileExistsError), own_folder("resume"):
            pass
        assert first.is_dir()  # this process lives
    assert [p.name for p in tmp_path.iterdir()] == ["dy-0123456789"]


def test_the_folder_of_a_container_that_shares_the_root_is_left_alone(tmp_path):
    """A pid of another pid namespace is no process here, and lives for all that."""
    folder = tmp_path / "resume-4100000-1.0"
    folder.mkdir()
    (folder / ".system").write_text("another one")
    with own_folder("resume", tmp_path):
        assert folder.exists()
    os.utime(folder, (time.time() - 100_000.0,) * 2)
    with own_folder("resume", tmp_path):
        assert not folder.exists(), "a day later nobody works in it"


@pytest.mark.heavy
def test_what_a_killed_training_of_ray_left_is_swept_by_the_next_one():
    child = CHILD.replace("own_folder", "short_folder").replace('"resume"', '"ray"')
    done = run_process([sys.executable, "-c", child])
    left = Path(done.stdout.strip())
    assert done.returncode == -9 and left.name.startswith("ray-")
    with short_folder("ray") as mine:
        assert not left.exists()
        # What Ray puts behind it, at its longest; a socket's path may have 107 characters.
        session = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
        assert len(f"{mine}/{session}") <= 107


@pytest.mark.heavy
def test_sockets_fit_however_long_the_temporary_folder_is(tmp_path, monkeypatch):
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with temporary_below(long):
        place = Path(tempfile.mkdtemp(prefix="pymp-"))  # as multiprocessing makes its own
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place / "listener-01234567"))
    assert not place.parent.exists()
    assert tempfile.gettempdir() == str(long)


@pytest.mark.heavy
def test_an_agent_that_is_killed_leaves_nothing_outside_its_folder():
    """The fork server's folders lie in the agent's own, and go when the lease is torn down."""
    import os
    import signal

    from drillyard.backend import Order
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.mailbox.records import ExperimentRecord
    from drillyard_backends.local import LocalBackend
    from tests.helpers.toy import until

    # Short: the path of a socket must fit.
    with tempfile.TemporaryDirectory(prefix="dy", dir="/tmp") as folder:
        outside, runtime = Path(folder, "t"), Path(folder, "r")
        outside.mkdir()
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(outside)
        try:
            url = f"{folder}/s"
            box = Mailbox(open_store(url), "x")
            box.create(
                "experiment.json",
                ExperimentRecord(name="x", spec={}, identity="x", created_at=0.0),
            )
            backend = LocalBackend(runtime=runtime)

            def ready(lease_id: str) -> int:
                order = Order(lease_id=lease_id, experiment="x", store_url=url, idle_s=60.0)
                lease = backend.provision(order)
                until(
                    lambda: any(w.state == "ready" and w.lease == lease_id for w in box.workers())
                )
                return int(lease.provider["pid"])

            first = ready("dy-000000000a")
            scratch = runtime / "dy-000000000a" / "scratch"
            until(lambda: list(scratch.glob("tmp/pymp-*")), what="the fork server's folder")
            os.kill(first, signal.SIGKILL)
            gone = [le for le in backend.leases() if le.lease_id == "dy-000000000a"]
            until(
                lambda: not any(le.lease_id == "dy-000000000a" for le in backend.leases()),
                what=f"an end of {gone}",
            )
            ready("dy-000000000b")
            assert not scratch.exists()  # swept by the next one
            assert list(outside.iterdir()) == []
        finally:
            for lease in backend.leases():
                backend.teardown(lease)
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
        assert list(outside.iterdir()) == []


@pytest.mark.heavy
def test_the_folder_goes_before_the_interpreter_and_nobody_complains():
    """What machines print at their end is read by people: on a serial port, with `logs`."""
    program = """
import shutil, sys
from multiprocessing import forkserver
from pathlib import Path
from drillyard.system.scratch import temporary_below
folder = Path(sys.argv[1])
with temporary_below(folder):
    forkserver.ensure_running()
    print(*folder.glob("tmp/pymp-*/*"))
shutil.rmtree(folder)
"""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    done = run_process([sys.executable, "-c", program, str(folder)])
    assert (done.returncode, done.stderr) == (0, "")
    assert "listener-" in done.stdout
    assert not folder.exists()
