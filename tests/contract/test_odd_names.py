"""Files whose names no key can have, from a script to where people look for them."""

from __future__ import annotations

import json
import shutil

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from tests.conftest import BIN
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy

WORK = """
import json, os
os.makedirs("models/.cache")
for name in ("my plot.png", "übersicht.png", "models/.cache/x", "models/ep[3].pt"):
    open(name, "w").write(name)
open(b"bad-\\xff.png", "w").write("x")
json.dump({"score": 1}, open("my results.json", "w"))
"""
FILE = """
schema: 1
name: odd
workload: script
script:
  run: [work.py]
  keep: ['*.png', 'models/*']
  results: {file: my results.json}
tracking: {mlflow: auto}
store: [{url: ./copies}, {url: mlflow}]
"""
ODD = {
    "files/my plot.png": "files/my~20plot.png",
    "files/my results.json": "files/my~20results.json",
    "files/übersicht.png": "files/~C3~BCbersicht.png",
    "files/models/.cache/x": "files/models/~2Ecache/x",
    "files/models/ep[3].pt": "files/models/ep~5B3~5D.pt",
}


def test_kept_files_with_odd_names_are_kept_copied_and_named(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "it.yaml").write_text(FILE)

    def drillyard(*words: str) -> str:
        done = run_process([str(BIN / "drillyard"), *words], cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    drillyard("run", "it.yaml")
    mailbox = Mailbox(open_store(str(tmp_path / "drillyard-runs")), "odd")
    files = mailbox.result("t0001-s1", Phase.STORE).files
    assert set(ODD) <= set(files)
    copies = tmp_path / "copies" / "odd" / "t0001-s1"
    for name, key in ODD.items():
        assert files[name].key == f"runs/t0001-s1/{key}"
        data = mailbox.read_entry(files[name])
        assert (copies / key).read_bytes() == data
        if "results" not in name:
            assert data.decode() == name.removeprefix("files/")
    listed = json.loads((copies / "manifest.json").read_text())["files"]
    assert set(listed) == set(files)
    assert "bad-" not in "".join(files)
    assert "bad-" in drillyard("logs", "odd")
    drillyard("archive", "odd", "--out", "odd.zip")
    shutil.rmtree(tmp_path / "drillyard-runs" / "odd")
    drillyard("restore", "odd.zip")
    assert mailbox.result("t0001-s1", Phase.STORE).files == files
