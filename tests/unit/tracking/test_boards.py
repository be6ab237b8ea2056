"""``drillyard tensorboard``: a copy that follows a run, and the server that shows it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from drillyard.cli.main import main
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import AttemptStart, ExperimentRecord, RunRecord
from drillyard.tracking.tensorboard_files import Boards
from tests.helpers.patience import PATIENCE_S

RUN = "t0001-s1"
DRILLYARD = str(Path(sys.executable).parent / "drillyard")


@pytest.fixture
def mailbox(tmp_path):
    return begun(str(tmp_path / "store"))


def begun(store_url: str) -> Mailbox:
    """An experiment whose one run has begun and has no curve yet."""
    mailbox = Mailbox(open_store(store_url), "e")
    mailbox.write(
        "experiment.json", ExperimentRecord(name="e", spec={}, identity="x", created_at=1)
    )
    mailbox.write(f"runs/{RUN}/run.json", RunRecord(run=RUN, experiment="e", seed=1))
    mailbox.write(f"runs/{RUN}/attempts/train-1/start.json", AttemptStart(attempt=1, started_at=1))
    return mailbox


def lines(mailbox: Mailbox, first: int, count: int) -> None:
    text = "\n".join(
        json.dumps({"seq": n, "step": 10 * n, "time": 100.0 + n, "metrics": {"ret": float(n)}})
        for n in range(first, first + count)
    )
    key = mailbox.key(f"runs/{RUN}/attempts/train-1/streams/train/{first:012d}.jsonl")
    mailbox.store.put(key, text.encode())


def points(folder: Path) -> list[tuple[int, float, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "e" / RUN))
    events.Reload()
    if "ret" not in events.Tags()["scalars"]:
        return []
    return [(e.step, e.value, e.wall_time) for e in events.Scalars("ret")]


def test_the_copy_follows_a_run_and_takes_its_files_at_the_end(mailbox, tmp_path):
    boards = Boards(mailbox, [RUN], tmp_path / "tb")
    assert boards.sync() == 0
    lines(mailbox, 0, 3)
    assert boards.sync() == 1
    assert points(boards.folder) == [(0, 0.0, 100.0), (10, 1.0, 101.0), (20, 2.0, 102.0)]
    assert boards.sync() == 0
    lines(mailbox, 3, 1)
    boards.sync()
    assert points(boards.folder)[-1] == (30, 3.0, 103.0)
    # Another process takes over: no point twice.
    again = Boards(mailbox, [RUN], tmp_path / "tb")
    again.sync()
    assert [p[0] for p in points(again.folder)] == [0, 10, 20, 30]
    (live,) = (again.folder / "e" / RUN).iterdir()
    stored = live.read_bytes()
    name = "tensorboard/events.out.tfevents.1.final"
    # What an attempt has so far may be a part only: its streams count until it has published.
    mailbox.store.put(mailbox.key(f"runs/{RUN}/attempts/train-1/{name}"), b"a part")
    assert again.sync() == 0
    mailbox.store.put(mailbox.key(f"runs/{RUN}/{name}"), stored)
    assert again.sync() == 1
    (final,) = (again.folder / "e" / RUN).iterdir()
    assert final.name == "events.out.tfevents.1.final" and final.read_bytes() == stored
    assert again.sync() == 0
    assert Boards(mailbox, [RUN], tmp_path / "tb").sync() == 0


def test_points_that_were_read_before_the_store_failed_are_in_the_copy(
    mailbox, tmp_path, monkeypatch
):
    lines(mailbox, 0, 3)
    boards = Boards(mailbox, [RUN], tmp_path / "tb")
    listed = mailbox.store.list

    def failing(prefix):
        if "/timing/" in prefix:
            raise StoreUnavailable("away")
        return listed(prefix)

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr(mailbox.store, "list", failing)
        boards.sync()
    boards.sync()
    assert [p[0] for p in points(boards.folder)] == [0, 10, 20]


@pytest.mark.heavy
def test_the_server_shows_it_and_ends_with_the_command(mailbox, tmp_path):
    lines(mailbox, 0, 3)
    place = f"{mailbox.store.url}/e"
    child = subprocess.Popen(
        [DRILLYARD, "tensorboard", place, "--port", "0", "--folder", str(tmp_path / "tb")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A shell's background jobs ignore Ctrl-C, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert child.stdout is not None
        assert "1 new file of 1 run" in child.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/", child.stdout.readline())
        assert url is not None
        (server,) = psutil.Process(child.pid).children()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(f"{url[0]}data/runs", timeout=5) as answer:
                    runs = json.load(answer)
                if runs:
                    break
            except OSError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert runs == [f"e/{RUN}"]
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE_S) == 0
        psutil.wait_procs([server], timeout=PATIENCE_S)
        assert not server.is_running()
    finally:
        child.kill()
        child.wait(PATIENCE_S)


@pytest.mark.heavy
def test_kill_9_of_the_command_leaves_no_server(mailbox, tmp_path):
    lines(mailbox, 0, 1)
    child = subprocess.Popen(
        [
            DRILLYARD,
            "tensorboard",
            "e",
            "--store",
            mailbox.store.url,
            "--port",
            "0",
            "--folder",
            str(tmp_path / "tb"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert child.stdout is not None
    child.stdout.readline(), child.stdout.readline()
    (server,) = psutil.Process(child.pid).children()
    child.kill()
    child.wait(PATIENCE_S)
    gone, _ = psutil.wait_procs([server], timeout=PATIENCE_S)
    assert gone


def test_without_serving_it_only_copies(mailbox, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    lines(mailbox, 0, 2)
    assert main(["tensorboard", f"file://{mailbox.store.url}/e/{RUN}", "--no-serve"]) == 0
    assert str(tmp_path / "home" / "tensorboard") in capsys.readouterr().out
    assert main(["tensorboard", "nothing", "--store", mailbox.store.url, "--no-serve"]) == 2
