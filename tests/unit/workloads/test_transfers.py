"""Copies between a working folder and a share."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import RunFailed
from drillyard.mailbox.memory import MemoryStore
from drillyard.workloads import transfers

NAMES = ["my data.csv", "übersicht.png", ".cache/x", "ep[3].pt", "a~20b"]


def files(folder: Path) -> dict[str, str]:
    return {name: path.read_text() for name, path in transfers.files_below(folder)}


@pytest.mark.parametrize("whole", [False, True])
def test_names_that_no_key_can_have_go_to_a_store_and_back(tmp_path: Path, whole: bool) -> None:
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


def test_a_key_leads_to_no_place_outside_of_the_folder(tmp_path: Path) -> None:
    store = MemoryStore("memory://evil")
    store.put("d/~2E~2E/~2E~2E/x", b"")
    with pytest.raises(RunFailed, match="would leave the working folder"):
        transfers.download(tmp_path, "memory://evil/d", "here", "memory://x")
    assert files(tmp_path) == {}
