"""Files that travel: between a folder and a share, and beside a script."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drillyard.cli.main import main
from drillyard.errors import RunFailed
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.temporary_files import beside
from drillyard.runs import code_archive
from drillyard.workloads import transfers
from tests.helpers.patience import PATIENCE_S

# -- Copies between a working folder and a share ----------------------------------------------


NAMES = ["my data.csv", "übersicht.png", ".cache/x", "ep[3].pt", "a~20b"]


def files(folder: Path) -> dict[str, str]:
    return {name: path.read_text() for name, path in transfers.files_below(folder)}


@pytest.mark.parametrize("whole", [False, True])
def test_names_that_no_key_can_have_go_to_a_store_and_back(tmp_path, whole):
    place = f"memory://odd{tmp_path}"
    for name in NAMES:
        path = tmp_path / "work" / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for name in [""] if whole else NAMES:
        source = f"d/{name}".rstrip("/")
        transfers.upload(tmp_path / "work", source, f"{place}/{source}", "memory://x")
        transfers.download(tmp_path / "back", f"{place}/{source}", source, "memory://x")
    assert files(tmp_path / "back" / "d") == {name: name for name in NAMES}


def test_runs_that_upload_the_same_name_at_once_do_not_disturb_each_other(tmp_path, monkeypatch):
    """Seeds share the target, and each copies while the other one does."""
    share, both = tmp_path / "share", threading.Barrier(2)
    texts = {"one": "1" * 100, "other": "2" * 100}
    copyfile = shutil.copyfile

    def copy(source: Path, target: Path) -> object:
        done = copyfile(source, target)
        both.wait(PATIENCE_S)
        return done

    monkeypatch.setattr("drillyard.workloads.transfers.shutil.copyfile", copy)
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.bin").write_text(text)
    with ThreadPoolExecutor() as pool:
        at_once = [
            pool.submit(transfers.upload, tmp_path / n, "data.bin", f"{share}/", "/store")
            for n in texts
        ]
    assert [each.result() for each in at_once] == [1, 1]
    assert files(share)["data.bin"] in texts.values() and list(files(share)) == ["data.bin"]


def test_a_copy_that_fails_leaves_nothing_on_the_share(tmp_path, monkeypatch):
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("drillyard.workloads.transfers.shutil.copyfile", full)
    (tmp_path / "data.bin").write_text("whole")
    with pytest.raises(OSError, match="No space"):
        transfers.upload(tmp_path, "data.bin", f"{tmp_path}/share/", "/store")
    assert files(tmp_path / "share") == {}


def test_a_download_takes_no_file_that_another_run_is_writing(tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    (share / "whole").write_text("whole")
    beside(share / "half").write_text("ha")
    assert transfers.download(tmp_path / "work", str(share), "d", "/store") == 1
    assert files(tmp_path / "work") == {"d/whole": "whole"}


def test_a_key_leads_to_no_place_outside_of_the_folder(tmp_path):
    store = MemoryStore("memory://evil")
    store.put("d/~2E~2E/~2E~2E/x", b"")
    with pytest.raises(RunFailed, match="would leave the working folder"):
        transfers.download(tmp_path, "memory://evil/d", "here", "memory://x")
    assert files(tmp_path) == {}


# -- ``check`` of a script says which files travel to the workers, and which stay -------------


SCRIPT = """
schema: 1
name: files
workload: script
seeds: [1]
script:
  run: [python work.py]
  results: {stdout: '^(\\w+)=(\\S+)$'}
"""


def test_check_says_what_travels_and_what_stays(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files.yaml").write_text(SCRIPT)
    (tmp_path / "work.py").write_text("print(open('mesh.inp').read())")
    (tmp_path / "mesh.inp").write_text("score=1")
    (tmp_path / "notes.log").write_text("no")
    (tmp_path / ".env").write_text("no")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert main(["check", "files.yaml", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (said,) = [one["message"] for one in findings if "travel" in one["message"]]
    travels, stays = said.split("What stays: ")
    assert "2 files travel" in travels and "of at most 67" in travels
    assert "mesh.inp" in travels and "work.py" in travels and "log" not in travels
    assert "notes.log (.gitignore:1: *.log)" in stays and ".env (hidden)" in stays
    monkeypatch.setattr(code_archive, "MAX_BYTES", 10)
    assert main(["check", "files.yaml"]) == 2
    assert "too large to send to workers" in capsys.readouterr().out
