"""What scripts measure, send, fetch and keep."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import (
    ProcessKilled,
    RunFailed,
    TimedOut,
)
from drillyard.mailbox.records import FileEntry
from drillyard.metrics.streams import read_stream
from drillyard.runs.workload import RunContext
from drillyard.workloads import measured
from tests.helpers.patience import until
from tests.helpers.workload_bench import PATTERN, Bench, script

PY = sys.executable


@pytest.mark.heavy
def test_telemetry_keeps_its_own_times_and_is_followed(tmp_path):
    code = """
import time
with open("t.csv", "w", buffering=1) as file:
    file.write("timestamp,metric,value\\n")
    file.write("2026-03-01T12:00:00Z,cpu,1\\n1772366401,cpu,2\\n")
    file.write("2026-03-01T13:00:02+01:00,mem,7\\n")
    while not __import__("os").path.exists("go"): time.sleep(0.02)
    file.write("2026-03-01T12:00:03,cpu,3")
"""
    bench = Bench(tmp_path, script(["own.py"], telemetry="t.csv"), {"own.py": code})

    def lines() -> list[Any]:
        return read_stream(bench.mailbox, "t0001-s1", "telemetry")

    thread = threading.Thread(target=bench.train)
    thread.start()
    until(lambda: len(lines()) == 3)
    (bench.work / "go").touch()
    thread.join()
    assert [(i["step"], i["time"], i["metrics"]) for i in lines()] == [
        (0, 1772366400.0, {"cpu": 1.0}),
        (1, 1772366401.0, {"cpu": 2.0}),
        (0, 1772366402.0, {"mem": 7.0}),
        (2, 1772366403.0, {"cpu": 3.0}),
    ]


@pytest.mark.heavy
def test_missing_telemetry_is_none_and_broken_telemetry_is_named(tmp_path):
    Bench(tmp_path, script([["true"]], telemetry="t.csv")).train()
    write = [PY, "-c", "open('t.csv', 'w').write('1,cpu,1\\nsoon,cpu,2\\n')"]
    bench = Bench(tmp_path, script([write], telemetry="t.csv"), attempt=2)
    with pytest.raises(RunFailed, match="line 2 of the telemetry"):
        bench.train()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("last", "wanted"),
    [("kill -KILL $$", ProcessKilled), ("sleep 600", TimedOut), ("exit 3", RunFailed)],
)
@pytest.mark.parametrize("cut", ["1,c", "soon,c,1\\n"])
def test_telemetry_that_ends_within_a_line_does_not_hide_why_the_script_ended(
    tmp_path, monkeypatch, last, wanted, cut
):
    # Read after the end only: a broken line that is found earlier ends the script itself.
    monkeypatch.setattr("drillyard.workloads.script._FOLLOW_S", 600.0)
    line = f"printf '1,c,3\\n{cut}' > t.csv; {last}"
    bench = Bench(tmp_path, script([["sh", "-c", line]], telemetry="t.csv", max_time_s=0.9))
    with pytest.raises(wanted) as caught:
        bench.train()
    assert "telemetry" not in str(caught.value)
    found = read_stream(bench.mailbox, "t0001-s1", "telemetry")
    assert [each["metrics"] for each in found] == [{"c": 3.0}]


@pytest.mark.heavy
def test_uploads_and_downloads(tmp_path):
    """Uploads after setup, downloads before results are read; folders whole."""
    share = tmp_path / "share"
    share.mkdir()
    tree = script(
        [
            [
                PY,
                "-c",
                "import os, sys; p = sys.argv[1]\n"
                "seen = len(os.listdir(p + '/d'))\n"
                "open(p + '/r.csv', 'w').write('metric,value\\nseen,%d\\n' % seen)",
                str(share),
            ]
        ],
        setup=[["mkdir", "d"], ["touch", "d/a"], ["touch", "d/b"]],
        upload=[{"from": "d", "to": f"{share}/d"}],
        download=[{"from": f"{share}/r.csv", "to": "got/"}],
        results={"file": "got/r.csv"},
    )
    assert Bench(tmp_path, tree).metrics() == {"seen": 2.0}


@pytest.mark.heavy
def test_uploads_to_a_store_and_back(tmp_path):
    tree = script(
        [["rm", "-r", "d"]],
        setup=[["mkdir", "d"], [PY, "-c", "open('d/r.csv', 'w').write('metric,value\\nx,4\\n')"]],
        upload=[{"from": "d", "to": f"memory://share{tmp_path}/d"}],
        download=[{"from": f"memory://share{tmp_path}/d", "to": "back"}],
        results={"file": "back/r.csv"},
    )
    assert Bench(tmp_path, tree).metrics() == {"x": 4.0}


@pytest.mark.heavy
def test_a_download_of_nothing_fails(tmp_path):
    tree = script([["true"]], download=[{"from": str(tmp_path / "nothing"), "to": "x"}])
    with pytest.raises(RunFailed, match="there is no"):
        Bench(tmp_path, tree).train()


@pytest.mark.heavy
def test_files_that_are_kept(tmp_path):
    bench = Bench(
        tmp_path, script([["mkdir", "m"], ["touch", "m/a.bin"], ["touch", "junk"]], keep=["m/*"])
    )
    kept = {"results.json", "files/m/a.bin", "files/parameters.json"}
    assert set(bench.train().files.files) == kept


@pytest.mark.heavy
def test_a_file_that_a_background_process_deletes_is_not_kept(tmp_path, monkeypatch):
    """It disappears after it was listed; the run has its result."""
    save = measured.save

    def late(context: RunContext, name: str, data: bytes | Path) -> dict[str, FileEntry]:
        if isinstance(data, Path) and data.name == "lock":
            data.unlink()
        return save(context, name, data)

    monkeypatch.setattr("drillyard.workloads.script.save", late)
    bench = Bench(tmp_path, script([["touch", "a.bin", "lock"]], keep=["*"]))
    kept = {"results.json", "files/a.bin", "files/parameters.json"}
    assert set(bench.train().files.files) == kept


@pytest.mark.heavy
def test_an_attempt_starts_in_a_fresh_folder(tmp_path):
    tree = script(
        [[PY, "-c", "import os; print('n=%d' % len(os.listdir()));open('x','w')"]],
        results={"stdout": PATTERN},
    )
    first = Bench(tmp_path, tree).train()
    second = Bench(tmp_path, tree, attempt=2).train()
    assert first.summary["metrics"] == second.summary["metrics"] == {"n": 1.0}
