"""Tickets and results, as the driver waits for them; a backend of threads does the work."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from drillyard.driver.driver import Driver
from drillyard.driver.watcher import Patience
from drillyard.errors import (
    RunFailed,
    StoreUnavailable,
    WorkerLost,
)
from drillyard.leases.ledger import local_intents
from drillyard.mailbox.ticket_states import ticket_states
from tests.helpers.lives import TICKETS, life
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.records import failed
from tests.helpers.tiny_backend import ThreadBackend, Worker, good_work, tiny


def test_a_life_leaves_results_a_ledger_and_no_machine(folder, mailbox):
    backend = ThreadBackend()
    results = life(Driver(tiny(folder), mailbox, backend))
    assert results == {t: f"{t} by attempt 1" for t in TICKETS}

    record = mailbox.experiment_record()
    assert record.spec["train"]["steps"] == 100
    assert record.text == "schema: 1\nworkload: tiny\n"
    assert record.code is not None
    assert mailbox.store.stat(mailbox.key(f"code/{record.code}.tar.gz"))
    assert mailbox.run("t0001-s2").choices == {"seed_twice": 4}
    (driver,) = mailbox.drivers()
    assert (driver.number, driver.outcome) == (1, "done")
    assert driver.ended_at is not None
    lease = backend.provisions[0]
    keys = {i.key.rsplit("/", 1)[1] for i in mailbox.store.list(mailbox.key(f"leases/{lease}/"))}
    assert keys == {"intent.json", "rented.json", "ending.json", "gone.json"}
    assert ThreadBackend.alive == {}
    assert list(local_intents()) == []
    seconds = json.loads(mailbox.store.get(mailbox.key("timings/1.json")))["seconds"]
    assert set(seconds) == {"prepare", "provision", "setup", "teardown"}


@pytest.mark.heavy
def test_silence_alone_buries_nobody(folder, mailbox):
    hold = threading.Event()

    def slow(worker: Worker, ticket: Any, attempt: int) -> str:
        hold.wait(PATIENCE_S)
        return good_work(worker, ticket, attempt)

    driver = Driver(tiny(folder), mailbox, ThreadBackend(slow))
    driver._closer._silent_s = 0.0
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    until(lambda: any(mailbox.claims()))
    (running,) = driver._closer.close_lost(ticket_states(mailbox))
    assert running == "t0001-s1.train"
    assert not any(ended for *_, ended in mailbox.claims())
    hold.set()
    assert driver.wait("t0001-s1.store", PATIENCE_S).attempt == 1
    driver.teardown()


@pytest.mark.heavy
def test_a_users_error_fails_the_run_and_what_follows_but_no_other(folder, mailbox):
    def broken(worker: Worker, ticket: Any, attempt: int) -> str:
        if ticket.ticket == "t0001-s2.train" and attempt == 1:
            raise ValueError("the reactor exploded")
        return good_work(worker, ticket, attempt)

    driver = Driver(tiny(folder), mailbox, ThreadBackend(broken))
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    assert driver.wait("t0001-s1.store", PATIENCE_S).attempt == 1
    with pytest.raises(RunFailed, match=r"t0001-s2\.train: the reactor exploded"):
        driver.wait("t0001-s2.train", PATIENCE_S)
    with pytest.raises(RunFailed, match=r"not started, because t0001-s2\.train did not succeed"):
        driver.wait("t0001-s2.store", PATIENCE_S)
    assert driver.decided
    driver.teardown()
    driver.close("failed")
    results = life(Driver(tiny(folder), mailbox, ThreadBackend(broken)))
    assert results["t0001-s2.train"] == "t0001-s2.train by attempt 2"
    assert set(results) == {t for t in TICKETS if "s2" in t}


@pytest.mark.heavy
def test_attempts_that_machines_use_up_are_infrastructure(folder, mailbox):
    driver = Driver(tiny(folder, seeds=[1]), mailbox, ThreadBackend())
    driver.open()
    for attempt in range(1, 7):
        mailbox.end(failed("t0001-s1.train", attempt=attempt, message="killed by SIGKILL", by="x"))
    with pytest.raises(WorkerLost, match=r"killed by SIGKILL.*no attempts are left"):
        driver.wait("t0001-s1.train", PATIENCE_S)


@pytest.mark.heavy
def test_a_result_is_seen_within_half_a_second(folder, mailbox):
    driver = Driver(tiny(folder, seeds=[1]), mailbox, ThreadBackend())
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    accepted = driver.wait("t0001-s1.store", PATIENCE_S)
    assert time.time() - accepted.ended_at < 0.5 + 0.5  # half a second, and a slow machine
    driver.teardown()


class Pushed(ThreadBackend):
    """Takes tickets by ``launch``, as a cluster's queue does."""

    kind = "pushed"
    traits = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[str] = []

    def launch(self, lease: Any, ticket_id: str) -> dict[str, Any]:
        self.launched.append(ticket_id)
        return {"job": f"job-{ticket_id}"}


@pytest.mark.heavy
def test_tickets_are_pushed_once_where_workers_do_not_pull(folder, mailbox, monkeypatch):
    monkeypatch.setattr("drillyard.driver.watcher.TEND_S", 0.05)
    monkeypatch.setattr(Worker, "one", lambda self, ticket, attempt: self.end.wait(0.02))
    backend = Pushed()
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    until(lambda: len(backend.launched) == 2)
    key = mailbox.key("launches/t0001-s1.train.1.json")
    until(lambda: mailbox.store.stat(key) is not None)
    assert json.loads(mailbox.store.get(key))["handle"] == {"job": "job-t0001-s1.train"}
    beat = mailbox.drivers()[0].written_at
    until(lambda: mailbox.drivers()[0].written_at > beat)  # several rounds of tending later
    assert sorted(backend.launched) == ["t0001-s1.train", "t0001-s2.train"]
    driver.teardown()


@pytest.mark.heavy
def test_a_store_that_is_away_decides_nothing_for_a_while(folder, mailbox, monkeypatch):
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    real, away = mailbox.claim_keys, threading.Event()
    failures = []

    def claim_keys() -> Any:
        if away.is_set():
            failures.append(1)
            raise StoreUnavailable("no route to host")
        return real()

    monkeypatch.setattr(mailbox, "claim_keys", claim_keys)
    away.set()
    until(lambda: len(failures) >= 2)
    away.clear()
    assert driver.wait("t0001-s2.store", PATIENCE_S).attempt == 1
    driver._watcher._looking = Patience(0.2)
    away.set()
    with pytest.raises(StoreUnavailable, match="no route to host"):
        driver.wait("t0009-s9.train", PATIENCE_S)
    away.clear()
    driver.teardown()
    assert ThreadBackend.alive == {}
