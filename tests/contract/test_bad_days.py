"""Bad days of a store and of machines: a clear error or the right result, and nothing is lost.

A disk that is full, or that turns read-only, is a real one: a file system in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.backend import open_backend
from drillyard.cli.main import main
from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from tests.contract.test_store_outage import Bench
from tests.helpers.open_drivers import closing
from tests.helpers.outage_store import impatient
from tests.helpers.patience import until
from tests.helpers.processes import run_process

RUNS = ("t0001-s1", "t0001-s2")


@pytest.fixture
def disk(tmp_path):
    """A small disk, with the room that `check` asks for."""
    place = tmp_path / "disk"
    place.mkdir()
    made = run_process(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(place)])
    if made.returncode:
        pytest.skip(f"a disk of its own needs root: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def bench(tmp_path, disk, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("drillyard.driver.driver.Watcher", impatient)
    made = Bench(tmp_path)
    made.url = str(disk / "store")
    made.mailbox = Mailbox(open_store(made.url), "gated")
    monkeypatch.chdir(made.project)
    monkeypatch.syspath_prepend(made.project)
    with closing(monkeypatch):
        yield made
    backend = open_backend("local", {})
    for entry in made.leases():
        backend.teardown(entry.lease)
    sys.modules.pop("gated_work", None)


def fill(disk: Path) -> None:
    """Nothing goes in any more, not even a heartbeat."""
    with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))


def clear(disk: Path) -> None:
    (disk / "filler").unlink()


def protect(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def release(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


DAYS = [
    pytest.param(fill, clear, "No space left|MB are free", "free at least", id="full"),
    pytest.param(
        protect, release, "(?i)read-only|cannot be written", "another store", id="read-only"
    ),
]


@pytest.mark.heavy
@pytest.mark.parametrize(("spoil", "mend", "words", "hint"), DAYS)
def test_a_disk_that_goes_bad_under_work(spoil, mend, words, hint, bench, disk, caplog):
    """The command says so and waits; it goes on by itself when the disk is well again."""
    kept: dict[str, str] = {}

    def day() -> None:
        spoil(disk)
        kept.update(contents(disk / "store"))
        until(lambda: re.search(words, caplog.text), what="a warning")
        mend(disk)
        # The next heartbeat says it, which may come after the end of the work.
        until(lambda: "can be written again" in caplog.text, what="the end of the warning")
        bench.gate.touch()

    bench.when(lambda: all(bench.steps()), day)
    assert bench.run().status == "SUCCEEDED"
    said = [r.getMessage() for r in caplog.records if "cannot be written" in r.getMessage()]
    assert len(said) == 1 and re.search(words, said[0]) and re.search(hint, said[0]), said
    for run in RUNS:
        for phase in (Phase.TRAIN, Phase.EVALUATE):
            accepted = bench.mailbox.accepted(run, phase)
            assert accepted is not None
            bench.mailbox.manifest(accepted)
    now = contents(disk / "store")
    points = {path for path in kept if path.endswith(".jsonl") and "/streams/" in path}
    assert points and {path: now.get(path) for path in points} == {p: kept[p] for p in points}
    assert not any(entry.open for entry in bench.leases())


@pytest.mark.heavy
@pytest.mark.parametrize(("spoil", "mend", "words", "hint"), DAYS)
def test_a_disk_that_is_bad_before_the_work(spoil, mend, words, hint, bench, disk):
    """What was finished stays readable, and nothing is rented."""
    bench.gate.touch()
    assert bench.run().status == "SUCCEEDED"
    before = contents(disk / "store")
    file = bench.project / "gated.yaml"
    file.write_text(file.read_text().replace("name: gated", "name: another"))
    spoil(disk)
    try:
        with pytest.raises(DrillyardError, match=words):
            bench.run()
        assert before.items() <= contents(disk / "store").items()
        assert main(["results", "gated", "--store", bench.url]) == 0
    finally:
        mend(disk)
    assert contents(disk / "store") == before


def contents(folder: Path) -> dict[str, str]:
    """The hash of each file."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
