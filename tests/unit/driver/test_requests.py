"""How many requests of a store one look needs. The numbers are printed: ``pytest -s``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.backend import Cost, Lease, Order
from drillyard.driver import reopen
from drillyard.errors import CorruptObject
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import IN_MEMORY
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Phase
from drillyard.runs.logs import Tail
from drillyard_tasks import publisher as publishing
from tests.helpers import records
from tests.helpers.counting_store import CountingStore
from tests.helpers.processes import run_process
from tests.helpers.searches import begun
from tests.unit.studies.test_superseded_study import twelve

URL = "memory://requests"
RUN = "t0001-s1"
SEGMENTS = 2160
"""Of each stream, and of the log, after three hours."""


@pytest.fixture
def store():
    yield CountingStore(URL)
    MemoryStore.forget(URL)


@pytest.fixture
def mailbox(store, tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    return Mailbox(store, "x")


def test_a_log_is_followed_without_listing_checkpoints(mailbox, store):
    folder = mailbox.key(f"runs/{RUN}/attempts/train-1")
    for number in range(SEGMENTS):
        for stream in ("train", "episodes", "evaluation", "timing"):
            MemoryStore.put(store, f"{folder}/streams/{stream}/{number:012d}.jsonl", b"{}\n")
    store.put(f"{folder}/logs/{0:012d}.txt", b"one\n")
    tail = Tail(mailbox, RUN)
    assert list(tail.new()) == ["one"]
    store.take()
    store.put(f"{folder}/logs/{1:012d}.txt", b"two\n")
    assert list(tail.new(Phase.TRAIN)) == ["two"]
    asked = store.take()
    print(f"\nfollowing a log: {asked} requests a look")
    assert asked == 3
    assert list(tail.new(Phase.TRAIN)) == []
    assert store.take() == 2


def test_a_new_attempt_without_a_log_does_not_hide_the_last_lines(mailbox):
    folder = mailbox.key(f"runs/{RUN}/attempts")
    mailbox.store.put(f"{folder}/train-1/logs/{0:012d}.txt", b"one\n")
    tail = Tail(mailbox, RUN)
    assert list(tail.new()) == ["one"]
    mailbox.store.put(f"{folder}/train-1/logs/{1:012d}.txt", b"killed\n")
    mailbox.store.put(f"{folder}/train-2/start.json", b"{}")
    assert list(tail.new()) == ["killed"]
    mailbox.store.put(f"{folder}/train-2/logs/{0:012d}.txt", b"again\n")
    assert list(tail.new()) == ["--- train, attempt 2 ---", "again"]


def test_the_log_of_a_run_begins_with_its_training(mailbox):
    for phase in ("evaluate", "store", "train"):
        key = mailbox.key(f"runs/{RUN}/attempts/{phase}-1/logs/{0:012d}.txt")
        mailbox.store.put(key, f"{phase}\n".encode())
    assert list(Tail(mailbox, RUN).new()) == ["train", "evaluate", "store"]


def rented(mailbox: Mailbox, tmp_path: Path, leases: int) -> Ledger:
    """A ledger of leases whose machines left their own records in it; all but one are gone."""
    ledger = Ledger(mailbox, home=tmp_path / "home")
    for ordinal in range(1, leases + 1):
        name = f"dy-{ordinal:010d}"
        order = Order(lease_id=name, experiment="x", store_url=URL, workers=2)
        ledger.intend(order, "gcp", ordinal, Cost(per_hour=1.0))
        ledger.rented(Lease(lease_id=name, backend="gcp", order=order, created_at=0.0))
        for folder in ("left", "last", "machines"):
            mailbox.store.put(mailbox.key(f"leases/{name}/{folder}/m1.json"), b"{}")
        if ordinal < leases:
            ledger.gone(name, "torn down")
    return ledger


def test_the_ledger_reads_leases_and_nothing_else(mailbox, store, tmp_path):
    ledger = rented(mailbox, tmp_path, 3)
    store.take()
    assert [e.intent.ordinal for e in ledger.entries()] == [1, 2, 3]
    first = store.take()
    assert [e.open for e in ledger.entries()] == [False, False, True]
    again = store.take()
    print(f"\nthe ledger of three leases: {first} requests, then {again}")
    assert (first, again) == (9, 1)


def test_a_lease_that_is_not_confirmed_gone_is_read_again(mailbox, tmp_path):
    ledger = rented(mailbox, tmp_path, 1)
    ledger.gone("dy-0000000001", "lost", confirmed=False)
    assert [e.unseen for e in ledger.entries()] == [True]
    Ledger(mailbox, home=tmp_path / "home").confirm("dy-0000000001")
    assert [e.unseen for e in ledger.entries()] == [False]


def test_the_cost_is_read_once_for_all_runs(monkeypatch):
    asked: list[str] = []

    def so_far(mailbox: Any) -> str:
        asked.append(mailbox.experiment)
        return "cost so far 1.00 USD"

    monkeypatch.setattr(publishing, "so_far", so_far)
    watched = [
        SimpleNamespace(driver=SimpleNamespace(mailbox=Mailbox(MemoryStore(URL), name)), cost=None)
        for name in ("x", "x", "x", "y")
    ]
    costs: dict[tuple[str, str], str] = {}
    for one in watched:
        publishing.Publisher._read_cost(one, costs)  # type: ignore[arg-type]
    assert asked == ["x", "y"]
    assert {one.cost for one in watched} == {"cost so far 1.00 USD"}


def test_a_study_that_waits_asks_little(mailbox, store, tmp_path):
    """Its step is as slow as the store wants, and it does not add up the money each time."""
    spent: list[int] = []
    store.pace_s = 1.0  # type: ignore[attr-defined]
    search = begun(mailbox, twelve(tmp_path, budget={"cost": 10}))
    search._account._spent = lambda: float(spent.append(1) or 0)  # type: ignore[func-returns-value]
    assert [search.step(float(n)) for n in range(20)] == [1.0] * 20
    assert len(spent) <= 1
    search.close()


# -- verification ---------------------------------------------------------------------------------


def accept(mailbox: Mailbox, phase: Phase, files: dict[str, bytes]) -> None:
    result = records.result_of(mailbox, RUN, phase, files)
    mailbox.create(f"runs/{RUN}/{phase.value}.accepted.json", result)


def test_what_was_verified_is_not_read_by_the_next_command(mailbox, store):
    accept(mailbox, Phase.TRAIN, {"a.bin": b"a" * 100_000, "b.bin": b"b" * 100_000})
    done = {RUN: [Phase.TRAIN]}
    store.bytes_read = 0
    assert reopen.damaged(mailbox, done) == {}
    first, store.bytes_read = store.bytes_read, 0
    assert reopen.damaged(mailbox, done) == {}
    print(f"\nverifying 200,000 bytes: {first:,} are read, then {store.bytes_read:,}")
    assert first >= 200_000
    assert store.bytes_read < 2_000
    store.put(mailbox.key(f"{mailbox.attempt_path(RUN, Phase.TRAIN, 1)}/a.bin"), b"x" * 100_000)
    assert reopen.damaged(mailbox, done) == {RUN: Phase.TRAIN}


@pytest.mark.parametrize("line", ["", "{", '{"manifest": 1}', "[1]", '{"manifest":"m","files":3}'])
def test_a_torn_record_of_it_is_as_good_as_none(mailbox, tmp_path, line):
    accept(mailbox, Phase.TRAIN, {"a.bin": b"a"})
    assert reopen.damaged(mailbox, {RUN: [Phase.TRAIN]}) == {}
    (record,) = (tmp_path / "home" / "verified").iterdir()
    record.write_text(line)
    assert reopen.damaged(mailbox, {RUN: [Phase.TRAIN]}) == {}
    (last,) = [text for text in record.read_text().splitlines() if "a.bin" in text]
    assert json.loads(last.removeprefix(line))["files"]


def test_a_large_file_is_verified_on_the_disk(mailbox, store, monkeypatch):
    monkeypatch.setattr("drillyard.mailbox.files.IN_MEMORY", 10)
    assert IN_MEMORY == 16 << 20
    accept(mailbox, Phase.TRAIN, {"a.bin": b"a" * 11, "b.bin": b"b" * 10})
    store.take()
    assert reopen.damaged(mailbox, {RUN: [Phase.TRAIN]}) == {}
    assert store.asked["download"] == 1
    key = mailbox.key(f"{mailbox.attempt_path(RUN, Phase.TRAIN, 1)}/a.bin")
    store.put(key, b"A" * 11)
    assert reopen.damaged(mailbox, {RUN: [Phase.TRAIN]}) == {RUN: Phase.TRAIN}
    store.delete(key)
    assert reopen.damaged(mailbox, {RUN: [Phase.TRAIN]}) == {RUN: Phase.TRAIN}


# -- memory ---------------------------------------------------------------------------------------

RESUME = """
import resource
from types import SimpleNamespace
import numpy as np
from drillyard.agents.packing import npz_bytes
from drillyard.learners import replay

rows, part = 20_000, 1_000
def ring():
    zeros = lambda *shape: np.zeros((rows, 1, *shape), np.float32)
    return SimpleNamespace(buffer_size=rows, n_envs=1, optimize_memory_usage=False,
        observations=zeros(1000), next_observations=zeros(1000), actions=zeros(1),
        rewards=zeros(), dones=zeros(), timeouts=zeros())
segments = {}
for first in range(0, rows, part):
    fields = {k: np.ones((part, *v.shape[1:]), v.dtype) for k, v in replay._arrays(ring()).items()}
    segments[f"replay-{first:012d}-{first + part:012d}.npz"] = npz_bytes(fields)
size = sum(map(len, segments.values()))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
buffer = ring()
replay.restore(buffer, segments, rows)
assert buffer.observations.min() == 1 and not segments
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(size, peak - before)
"""


@pytest.mark.heavy
def test_a_resume_holds_a_replay_buffer_once():
    done = run_process([sys.executable, "-c", RESUME], timeout=120, check=True)
    size, more = map(int, done.stdout.split())
    print(f"\nresuming with segments of {size >> 20} MiB: {more >> 20} MiB more than them")
    assert more < 0.3 * size


def test_a_missing_segment_is_still_found():
    from drillyard.learners import replay

    buffer = SimpleNamespace(buffer_size=4, n_envs=1, optimize_memory_usage=False)
    with pytest.raises(CorruptObject, match="are missing"):
        replay.restore(buffer, {}, 4)  # type: ignore[arg-type]
