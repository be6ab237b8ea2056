"""One driver at a time: races, take-overs, adoption."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drillyard.driver.driver import Driver
from drillyard.errors import (
    AlreadyDriven,
    Superseded,
)
from drillyard.mailbox.driver_lock import DriverLock
from tests.helpers.lives import life
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Worker, good_work, tiny

CRASHING = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox, open_store
from tests.helpers.tiny_backend import ThreadBackend, tiny
driver = Driver(tiny(Path({folder!r})), Mailbox(open_store({store!r}), "tiny"), ThreadBackend())
assert len(driver.open()) == 6
os.kill(os.getpid(), 9)
"""


def test_two_drivers_at_once(folder, mailbox):
    first = Driver(tiny(folder), mailbox, ThreadBackend())
    first.open()
    with pytest.raises(AlreadyDriven, match=str(os.getpid())):
        Driver(tiny(folder), mailbox, ThreadBackend()).open()
    first.close("done")
    assert Driver(tiny(folder), mailbox, ThreadBackend()).open() != []


def test_of_many_that_race_one_drives(mailbox):
    start, won, lost = threading.Barrier(8), [], []

    def race() -> None:
        lock = DriverLock(mailbox)
        start.wait()
        try:
            won.append(lock.take([]).number)
        except AlreadyDriven:
            lost.append(1)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (won, len(lost)) == ([1], 7)


def test_who_was_faster_between_the_look_and_the_claim_drives(mailbox):
    class Slow(DriverLock):
        raced = False

        def check_free(self) -> int:
            newest = super().check_free()
            if not self.raced:
                self.raced = True
                DriverLock(mailbox).take([])
            return newest

    with pytest.raises(AlreadyDriven):
        Slow(mailbox).take([])
    assert [d.number for d in mailbox.drivers()] == [1]


def test_a_killed_driver_is_taken_over_at_once(folder, mailbox):
    root = str(Path(__file__).parents[3])
    script = CRASHING.format(root=root, folder=str(folder), store=mailbox.store.url)
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S, check=False)
    assert done.returncode == -9
    assert mailbox.drivers()[0].ended_at is None
    assert len(life(Driver(tiny(folder), mailbox, ThreadBackend()))) == 6


def test_a_driver_that_was_taken_over_stops_and_tears_nothing_down(folder, mailbox):
    hold = threading.Event()

    def slow(worker: Worker, ticket: Any, attempt: int) -> str:
        hold.wait(PATIENCE_S)
        return "late"

    backend = ThreadBackend(slow)
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    lease = driver.provision()
    driver.setup(PATIENCE_S)
    usurper = mailbox.drivers()[0].model_copy(update={"number": 2, "host": "other"})
    mailbox.create("driver/2.json", usurper)
    with pytest.raises(Superseded, match="driver 2 took over"):
        driver.wait("t0001-s1.train", PATIENCE_S)
    driver.teardown()
    assert backend.teardowns == 0
    assert lease.lease_id in ThreadBackend.alive
    hold.set()


def test_an_adopted_lease_is_not_rented_twice(folder, mailbox):
    hold = threading.Event()

    def slow(worker: Worker, ticket: Any, attempt: int) -> str:
        hold.wait(PATIENCE_S)
        return good_work(worker, ticket, attempt)

    backend = ThreadBackend(slow)
    first = Driver(tiny(folder), mailbox, backend)
    first.open()
    lease = first.provision()
    first.setup(PATIENCE_S)
    until(lambda: any(mailbox.claims()))
    first.close("left")  # the driver goes, its machine works on
    again = ThreadBackend()
    second = Driver(tiny(folder), mailbox, again)
    todo = second.open()
    assert second.provision().lease_id == lease.lease_id
    hold.set()
    assert {second.wait(t.ticket, PATIENCE_S).attempt for t in todo} == {1}
    assert again.provisions == []
    second.teardown()
    assert ThreadBackend.alive == {}
