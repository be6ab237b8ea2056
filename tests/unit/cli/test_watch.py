"""``drillyard watch``: what it refuses, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from drillyard.cli.main import main
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.patience import PATIENCE_S


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_newest_until_it_is_told_to_end(tmp_path, number):
    for age, name in ((9, "old"), (0, "new")):
        write_experiment(tmp_path, name, seeds=(1,), finished=0)
        record = tmp_path / name / "experiment.json"
        os.utime(record, (record.stat().st_mtime - age,) * 2)
    program = [sys.executable, "-m", "drillyard.cli.start", "watch", "--store", str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        found = re.search(r"watching new at (http://127\.0\.0\.1:\d+/watch/new/)", line)
        assert found, line
        with urllib.request.urlopen(found[1] + "state", timeout=PATIENCE_S) as answer:
            assert b"t0001-s1" in answer.read()
        process.send_signal(number)
        rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "stopped watching; new is not affected" in rest
    with socket.socket() as again, pytest.raises(ConnectionRefusedError):
        again.connect(("127.0.0.1", int(found[1].split(":")[2].split("/")[0])))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["watch", *words])
    return code, capsys.readouterr().err


@pytest.mark.heavy
def test_what_cannot_be_watched_is_said(capsys, tmp_path):
    store = str(tmp_path / "store")
    code, err = run(capsys, "--store", store)
    assert code == 2 and "no store at" in err
    box = write_experiment(tmp_path / "store", seeds=(1,))
    code, err = run(capsys, "cstr-pp", "--store", store)
    assert code == 2 and "no experiment 'cstr-pp'" in err and "cstr-ppo" in err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, err = run(capsys, "cstr-ppo", "--store", store, "--port", port)
    assert code == 2 and f"port {port} of this machine is taken" in err
    assert "leave --port out" in err
    box.store.put(box.key("experiment.json"), b"{")
    code, err = run(capsys, "cstr-ppo", "--store", store)
    assert code == 1 and "experiment.json" in err
