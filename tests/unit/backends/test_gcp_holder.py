"""Whether the machine that holds a ticket lives: by its number, and UNKNOWN where in doubt."""

from __future__ import annotations

import pytest

from drillyard.backend import Liveness
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, WorkerRecord
from drillyard.mailbox.store import ObjectInfo
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import records
from drillyard_backends.gcp.managed import Stage
from drillyard_backends.gcp.records import Holder

NAME = "dy-0123456789-w0-0"
UP, COMING, GOING, LOST = Stage.UP, Stage.COMING, Stage.GOING, Stage.LOST
NEVER_SAID = Holder(NAME)
FIRST = Holder(NAME, "1")
REPLACED = Holder(NAME, "2", succeeded=True)


@pytest.mark.parametrize(
    ("holder", "listed", "expected"),
    [
        (FIRST, [], Liveness.GONE),
        (FIRST, [("another", "1", UP)], Liveness.GONE),
        (FIRST, [(NAME, "1", UP)], Liveness.ALIVE),
        (FIRST, [(NAME, "1", GOING)], Liveness.ALIVE),
        (FIRST, [(NAME, "1", COMING)], Liveness.ALIVE),
        (FIRST, [(NAME, "", LOST)], Liveness.GONE),
        (FIRST, [(NAME, "2", UP)], Liveness.UNKNOWN),
        (FIRST, [(NAME, "", COMING)], Liveness.UNKNOWN),
        (FIRST, [(NAME, "1", UP), (NAME, "2", UP)], Liveness.ALIVE),
        (REPLACED, [(NAME, "2", UP)], Liveness.GONE),
        (REPLACED, [(NAME, "1", UP), (NAME, "2", UP)], Liveness.UNKNOWN),
        (NEVER_SAID, [(NAME, "1", UP)], Liveness.ALIVE),
        (NEVER_SAID, [(NAME, "1", COMING)], Liveness.UNKNOWN),
        (NEVER_SAID, [], Liveness.GONE),
    ],
)
def test_a_machine_is_gone_only_where_that_is_certain(holder, listed, expected):
    assert holder.liveness(listed) is expected


class Dated(MemoryStore):
    """A store whose clock a test sets."""

    times: dict[str, float]

    def stat(self, key: str) -> ObjectInfo | None:
        found = super().stat(key)
        return found and ObjectInfo(key, found.size, self.times[key.rpartition("/")[2]])


@pytest.mark.parametrize(("beat", "succeeded"), [(10.0, True), (98.5, False), (130.0, False)])
def test_a_machine_that_began_after_the_last_beat_is_another_one(beat, succeeded):
    """G-D4: the name was proof, so that the dead machine's run waited for its successor."""
    store = Dated(f"memory://holder-{beat}")
    store.times = {"w.json": beat, f"{NAME}.json": 100.0}
    mailbox = Mailbox(store, "e")
    mailbox.claim(Claim(ticket="r.train", attempt=1, worker="w", token="t", claimed_at=1.0))
    mailbox.write("workers/w.json", WorkerRecord(worker="w", lease="l", host=NAME, written_at=1.0))
    assert records.holder_of(mailbox, "l", "r.train") == Holder(NAME)
    started = records.Started(machine=NAME, number="2", group="zones/z/g", written_at=1.0)
    mailbox.write(f"leases/l/machines/{NAME}.json", started)
    found = records.holder_of(mailbox, "l", "r.train")
    assert found == Holder(NAME, "2", "zones/z/g", succeeded)
    assert [m.index for m in records.begun(mailbox, "l")] == [0]


def begin(mailbox: Mailbox, number: str, at: float) -> None:
    """The program of the machine starts."""
    started = records.Started(machine=NAME, number=number, group="zones/z/g", written_at=at)
    records.begin(mailbox, "l", started)


@pytest.mark.parametrize(
    ("number", "expected"), [("1", Liveness.ALIVE), ("2", Liveness.GONE), ("", Liveness.GONE)]
)
def test_a_second_program_on_one_machine_makes_its_first_worker_not_gone(number, expected):
    """The first one still works: it could not reach the store when the second one began."""
    url, clock = f"memory://second-{number}", FakeClock()
    mailbox = Mailbox(MemoryStore(url, clock), "e")
    begin(mailbox, "1", 1.0)
    mailbox.claim(Claim(ticket="r.train", attempt=1, worker="w", token="t", claimed_at=1.0))
    mailbox.write("workers/w.json", WorkerRecord(worker="w", lease="l", host=NAME, written_at=1.0))
    clock.advance(100.0)
    begin(mailbox, number, 101.0)
    found = records.holder_of(mailbox, "l", "r.train")
    assert found is not None and found.liveness([(NAME, number or "2", UP)]) is expected
    MemoryStore.forget(url)
