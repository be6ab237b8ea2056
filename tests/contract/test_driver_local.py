"""The driver on real processes: what is left and what is resumed after kill -9 of anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.errors import RunFailed
from drillyard.mailbox.records import Phase
from drillyard.runs.logs import Tail
from tests.helpers.driven import Place, begin, lived_in
from tests.helpers.patience import PATIENCE_S, until

TICKETS = [f"t0001-s{s}.{p}" for s in (1, 2) for p in ("train", "evaluate", "store")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    made = Place(tmp_path)
    with lived_in(made, monkeypatch):
        yield made


def attempts(place: Place, run: str) -> list[str]:
    """What an attempt of a run left, for each that began."""
    return sorted(p.name for p in place.marks.glob(f"{run}.*"))


def test_a_life_on_this_machine_leaves_no_process(place):
    place.gate.touch()
    driver = place.driver()
    todo = driver.open()
    driver.provision()
    (worker,) = driver.setup(PATIENCE_S)
    assert worker.slots == 2
    target = place.tmp / "store/toy/board/t0001-s1.json"
    target.parent.mkdir(exist_ok=True)
    writer = (
        f"from drillyard.mailbox.temporary_files import *; beside(Path({str(target)!r})).touch()"
    )
    subprocess.run([sys.executable, "-c", writer], check=True)  # a writer that was killed
    done = {t.ticket: driver.wait(t.ticket, PATIENCE_S) for t in todo}
    assert sorted(done) == sorted(TICKETS)
    lines = list(Tail(driver.mailbox, "t0001-s1").new())
    assert any("hello from t0001-s1 attempt 1" in line for line in lines)
    driver.teardown()
    driver.close("done")
    assert place.processes() == []
    assert list((place.tmp / "store").rglob(".tmp-*")) == []
    read = place.mailbox.read_file
    evaluated = place.mailbox.manifest(done["t0001-s2.evaluate"])
    assert read(evaluated, "seen.txt") == b"seen: attempt 1"
    assert place.driver().open() == []


def test_an_agent_that_dies_before_it_is_ready_is_replaced(place):
    driver = place.driver()
    driver.open()
    first = driver.provision()
    os.kill(first.provider["pid"], signal.SIGKILL)
    driver.setup(PATIENCE_S)
    assert driver.lease is not None and driver.lease.lease_id != first.lease_id
    place.gate.touch()
    for ticket in TICKETS:
        driver.wait(ticket, PATIENCE_S)
    assert attempts(place, "t0001-s1") == ["t0001-s1.1"], "no attempt was lost"
    driver.teardown()
    assert place.processes() == []


DYING = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.helpers.driven import Place
driver = Place(Path({tmp!r})).driver()
driver.open()
driver.provision()
driver.setup(600)
os.kill(os.getpid(), 9)
"""


def test_killing_the_driver_costs_nothing(place):
    script = DYING.format(root=str(Path(__file__).parents[2]), tmp=str(place.tmp))
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S, check=False)
    assert done.returncode == -9
    place.gate.touch()
    # Nobody drives now, and the work goes on to its end.
    until(lambda: place.mailbox.accepted("t0001-s2", Phase.STORE))
    until(lambda: place.mailbox.accepted("t0001-s1", Phase.STORE))
    assert place.processes() != []
    until(lambda: len([1 for *_, ended in place.mailbox.claims() if ended]) == 6)
    # The same command again: nothing to do, nothing rented, and the old machine is gone.
    assert place.driver().open() == []
    assert place.processes() == []
    assert attempts(place, "t0001-s1") == ["t0001-s1.1"]


def test_the_same_command_adopts_what_lives(place):
    script = DYING.format(root=str(Path(__file__).parents[2]), tmp=str(place.tmp))
    subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S, check=False)
    until(lambda: len(attempts(place, "t0001-s1")) == 1)
    driver = place.driver()
    assert len(driver.open()) == 6
    lease = driver.provision()
    driver.setup(PATIENCE_S)
    place.gate.touch()
    assert {driver.wait(t, PATIENCE_S).attempt for t in TICKETS} == {1}
    assert [e.intent.ordinal for e in driver.ledger.entries()] == [1]
    assert lease.lease_id == driver.ledger.entries()[0].lease.lease_id
    driver.teardown()
    assert place.processes() == []


def test_a_users_error_reaches_the_caller(place):
    driver = place.driver({"raise": "value"})
    begin(driver)
    with pytest.raises(RunFailed, match="the tank is empty"):
        driver.wait("t0001-s1.train", PATIENCE_S)
    with pytest.raises(RunFailed, match=r"because t0001-s1\.train did not succeed"):
        driver.wait("t0001-s1.store", PATIENCE_S)
    driver.teardown()
    assert place.processes() == []


def test_setup_is_counted_from_the_rent_not_from_the_first_who_waits(place):
    place.gate.touch()
    driver = place.driver()
    driver.open()
    driver.provision()
    until(lambda: any(w.state == "ready" for w in place.mailbox.workers()))
    driver.setup()  # finds everything ready
    driver.save_timings()
    (path,) = [i.key for i in place.mailbox.store.list("toy/timings/")]
    seconds = json.loads(place.mailbox.store.get(path))["seconds"]
    (worker,) = place.mailbox.workers()
    rented = driver.ledger.entries()[0].rented.written_at
    assert seconds["setup"] == pytest.approx(worker.ready_at - rented, abs=0.2)
    assert seconds["setup"] > 0.05
    driver.stop("enough")
    driver.teardown()
    driver.close("done")
