"""The memory of a study in a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.checks.experiment import check
from drillyard.errors import ConfigError
from drillyard.mailbox import Mailbox, open_store
from drillyard.spec.load import load
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import free_port, run_process
from tests.helpers.searches import study_file

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="module")
def postgres():
    """URL of a database of its own, without a password; ended with the tests."""
    if not FOLDERS:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="drillyard-pg-", dir="/tmp"))  # postgres reaches it
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to be root
        shutil.chown(folder, "postgres", "postgres")
        who = {"user": "postgres", "group": "postgres", "extra_groups": []}
    port = free_port()
    environment = {**os.environ, "HOME": str(folder)}
    data = folder / "data"
    subprocess.run(
        [FOLDERS[-1] / "initdb", "-D", data, "-A", "trust", "-U", "study", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
        env=environment,
        **who,
    )
    words = f"-D {data} -h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    server = subprocess.Popen(
        [FOLDERS[-1] / "postgres", *words.split()],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **who,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while run_process(
            [FOLDERS[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        ).returncode:
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield f"postgresql://127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # does not wait for open connections
        server.wait(PATIENCE_S)
        shutil.rmtree(folder, ignore_errors=True)


def write(folder: Path, url: str, trials: int) -> Path:
    return study_file(folder, {"chooser": "tpe", "trials": trials, "storage": url, "confirm": 0})


def test_a_study_goes_on_from_its_memory_in_a_database(postgres, tmp_path, monkeypatch):
    from optuna import load_study

    from drillyard.studies.factory import memory_name
    from drillyard.studies.study_database import driver_url

    monkeypatch.setenv("PGUSER", "study")
    for trials in (3, 5):
        drillyard.run(
            write(tmp_path, postgres, trials), store=tmp_path / "r", flow=False, report=False
        )
    mailbox = Mailbox(open_store(str(tmp_path / "r")), "s")
    records, outcomes, _ = mailbox.trials()
    assert [r.number for r in records] == [1, 2, 3, 4, 5]
    memory = load_study(study_name=memory_name(mailbox), storage=driver_url(postgres))
    assert sorted(t.value for t in memory.trials) == sorted(
        o.values["evaluate/score"] for o in outcomes.values()
    )
    assert mailbox.store.stat(mailbox.key("memory.db")) is None
    # A second store that uses the database under the same name has a study of its own.
    drillyard.run(write(tmp_path, postgres, 2), store=tmp_path / "r2", flow=False, report=False)
    assert len(memory.trials) == 5


def test_a_database_that_is_away_is_told_before_anything_is_made(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://127.0.0.1:{closed.getsockname()[1]}/postgres"
    found = [f for f in check(load(write(tmp_path, url, 3))) if f.subject == "study.storage"]
    assert len(found) == 1 and found[0].infrastructure
    assert "cannot be used" in found[0].message


def test_a_password_in_the_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="user name or password") as caught:
        load(write(tmp_path, "postgresql://me:hidden@host/db", 3))
    assert "hidden" not in f"{caught.value} {caught.value.hint}"
