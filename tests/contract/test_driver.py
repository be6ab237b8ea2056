"""The driver against a backend of threads: what it writes, adopts, skips, repeats and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drillyard.attempts import ticket_states
from drillyard.backend import Lease, Order
from drillyard.driver import Driver, current
from drillyard.driver_lock import DriverLock
from drillyard.errors import (
    AlreadyDriven,
    IdentityChanged,
    InfrastructureError,
    NotFound,
    RunFailed,
    Stopped,
    StoreUnavailable,
    Superseded,
    TeardownUnconfirmed,
    TimedOut,
    UserError,
    WorkerLost,
)
from drillyard.ledger import local_intents
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Ending, Phase, TicketRecord
from drillyard.status import Cause, Status
from tests.contract.tiny_backend import ThreadBackend, Worker, good_work, tiny
from tests.patience import PATIENCE_S, until

TICKETS = [f"t0001-s{s}.{p}" for s in (1, 2) for p in ("train", "evaluate", "store")]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    yield
    for driver in list(Driver._open.values()):
        driver.close("test over")
    for _, worker in ThreadBackend.alive.values():
        worker.die()
        worker.join(5.0)
    ThreadBackend.alive.clear()


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(open_store(str(tmp_path / "store")), "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "project"


def life(driver: Driver) -> dict[str, str]:
    """A whole life; the text of each result."""
    todo = driver.open()
    if not todo:
        return {}
    driver.provision()
    driver.setup(timeout_s=PATIENCE_S)
    done = {t.ticket: driver.wait(t.ticket, timeout_s=PATIENCE_S) for t in todo}
    driver.teardown()
    driver.close("done")
    read = driver.mailbox.read_file
    return {t: read(driver.mailbox.manifest(a), "result.txt").decode() for t, a in done.items()}


def test_a_life_leaves_results_a_ledger_and_no_machine(folder: Path, mailbox: Mailbox) -> None:
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
    assert keys == {"intent.json", "rented.json", "gone.json"}
    assert ThreadBackend.alive == {}
    assert list(local_intents()) == []
    seconds = json.loads(mailbox.store.get(mailbox.key("timings/1.json")))["seconds"]
    assert set(seconds) == {"prepare", "provision", "setup", "teardown"}


def test_a_complete_experiment_rents_nothing(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    again = ThreadBackend()
    assert Driver(tiny(folder), mailbox, again).open() == []
    assert again.provisions == []
    assert [d.outcome for d in mailbox.drivers()] == ["done", "complete"]


def test_more_seeds_go_on_and_keep_what_is_there(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, seeds=[1, 2, 7]), mailbox, ThreadBackend()))
    assert set(results) == {f"t0001-s7.{p}" for p in ("train", "evaluate", "store")}
    accepted = mailbox.accepted("t0001-s1", Phase.TRAIN)
    assert accepted is not None and accepted.attempt == 1


def test_a_larger_budget_opens_every_run_again(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, train={"steps": 200}), mailbox, ThreadBackend()))
    assert results == {t: f"{t} by attempt 2" for t in TICKETS}
    assert mailbox.experiment_record().spec["train"]["steps"] == 200
    aside = mailbox.key("runs/t0001-s1/superseded/train-1.accepted.json")
    assert mailbox.store.stat(aside) is not None
    with pytest.raises(IdentityChanged, match=r"train\.steps: 200 -> 150"):
        Driver(tiny(folder, train={"steps": 150}), mailbox, ThreadBackend()).open()


def test_other_evaluation_repeats_evaluation_only(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, evaluate={"episodes": 3}), mailbox, ThreadBackend()))
    assert set(results) == {t for t in TICKETS if not t.endswith("train")}


def test_another_target_repeats_the_store_phase_only(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    results = life(Driver(tiny(folder, store=[{"url": "/data"}]), mailbox, ThreadBackend()))
    assert set(results) == {t for t in TICKETS if t.endswith("store")}


def test_a_damaged_result_is_made_again_with_what_follows(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    key = mailbox.key("runs/t0001-s2/attempts/evaluate-1/result.txt")
    mailbox.store.put(key, mailbox.store.get(key).replace(b"attempt", b"attempd"))
    said: list[str] = []
    results = life(Driver(tiny(folder), mailbox, ThreadBackend(), on_line=said.append))
    assert set(results) == {"t0001-s2.evaluate", "t0001-s2.store"}
    assert results["t0001-s2.evaluate"] == "t0001-s2.evaluate by attempt 2"
    assert "t0001-s2: the result of evaluate is damaged and is made again" in said
    assert Driver(tiny(folder), mailbox, ThreadBackend()).open() == []


def test_a_crash_between_deleting_and_forgiving_is_mended(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    mailbox.store.delete(mailbox.key("runs/t0001-s1/store.accepted.json"))
    results = life(Driver(tiny(folder), mailbox, ThreadBackend()))
    assert results == {"t0001-s1.store": "t0001-s1.store by attempt 2"}


def test_other_code_is_refused_with_the_difference(folder: Path, mailbox: Mailbox) -> None:
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    before = sorted(i.key for i in mailbox.store.list("tiny/"))
    (folder / "world.py").write_text("GRAVITY = 1.62\n")
    (folder / "other.py").write_text("NEW = 1\n")
    (folder / "experiment.schema.json").write_text("{}")  # for editors: no code
    with pytest.raises(IdentityChanged) as refused:
        Driver(tiny(folder), mailbox, ThreadBackend()).open()
    assert "the code in the experiment's folder changed: new other.py, changed world.py" in str(
        refused.value
    )
    with pytest.raises(IdentityChanged, match="threads: 1 -> 2"):
        Driver(tiny(folder, resources={"threads": 2}), mailbox, ThreadBackend()).open()
    assert sorted(i.key for i in mailbox.store.list("tiny/")) == before
    assert Driver(tiny(folder), mailbox, ThreadBackend(), allow_change=True).open() == []
    assert "training.code" in str(mailbox.experiment_record().history)


def test_what_nobody_has_begun_may_still_change(folder: Path, mailbox: Mailbox) -> None:
    first = Driver(tiny(folder), mailbox, ThreadBackend())
    first.open()
    first.close("setup failed")
    second = Driver(tiny(folder, resources={"threads": 2}), mailbox, ThreadBackend())
    assert second.open() != []
    assert {r.threads for r in mailbox.runs()} == {2}
    second.close("done")


def test_two_drivers_at_once(folder: Path, mailbox: Mailbox) -> None:
    first = Driver(tiny(folder), mailbox, ThreadBackend())
    first.open()
    assert current(mailbox.store.url, "tiny") is first
    with pytest.raises(AlreadyDriven, match=str(os.getpid())):
        Driver(tiny(folder), mailbox, ThreadBackend()).open()
    first.close("done")
    with pytest.raises(NotFound):
        current(mailbox.store.url, "tiny")
    assert Driver(tiny(folder), mailbox, ThreadBackend()).open() != []


def test_of_many_that_race_one_drives(mailbox: Mailbox) -> None:
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


def test_who_was_faster_between_the_look_and_the_claim_drives(mailbox: Mailbox) -> None:
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


CRASHING = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from drillyard.driver import Driver
from drillyard.mailbox import Mailbox, open_store
from tests.contract.tiny_backend import ThreadBackend, tiny
driver = Driver(tiny(Path({folder!r})), Mailbox(open_store({store!r}), "tiny"), ThreadBackend())
assert len(driver.open()) == 6
os.kill(os.getpid(), 9)
"""


def test_a_killed_driver_is_taken_over_at_once(folder: Path, mailbox: Mailbox) -> None:
    root = str(Path(__file__).parents[2])
    script = CRASHING.format(root=root, folder=str(folder), store=mailbox.store.url)
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S, check=False)
    assert done.returncode == -9
    assert mailbox.drivers()[0].ended_at is None
    assert len(life(Driver(tiny(folder), mailbox, ThreadBackend()))) == 6


def test_a_driver_that_was_taken_over_stops_and_tears_nothing_down(
    folder: Path, mailbox: Mailbox
) -> None:
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


def test_an_adopted_lease_is_not_rented_twice(folder: Path, mailbox: Mailbox) -> None:
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


def test_settings_do_not_change_under_a_working_run(folder: Path, mailbox: Mailbox) -> None:
    hold = threading.Event()

    def slow(worker: Worker, ticket: Any, attempt: int) -> str:
        hold.wait(PATIENCE_S)
        return "x"

    first = Driver(tiny(folder), mailbox, ThreadBackend(slow))
    first.open()
    first.provision()
    until(lambda: any(mailbox.claims()))
    first.close("left")
    with pytest.raises(UserError, match="while t0001-s1 is being worked on"):
        Driver(tiny(folder, train={"steps": 500}), mailbox, ThreadBackend()).open()
    assert mailbox.experiment_record().spec["train"]["steps"] == 100
    hold.set()


def test_a_lost_machine_is_replaced_and_its_attempt_counted(
    folder: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drillyard.lost.SILENT_S", 0.3)
    monkeypatch.setattr("drillyard.watcher.TEND_S", 0.1)

    def dies_once(worker: Worker, ticket: Any, attempt: int) -> str:
        if attempt == 1 and ticket.ticket == "t0001-s1.train":
            worker.die()
        return good_work(worker, ticket, attempt)

    backend = ThreadBackend(dies_once)
    driver = Driver(tiny(folder), mailbox, backend)
    driver._undertaker._silent_s = 0.3
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    accepted = driver.wait("t0001-s1.train", PATIENCE_S)
    assert accepted.attempt == 2
    ending = mailbox.ending("t0001-s1.train", 1)
    assert ending is not None and ending.cause is Cause.INFRASTRUCTURE
    assert len(set(backend.provisions)) == 2
    for ticket in TICKETS:
        driver.wait(ticket, PATIENCE_S)
    driver.teardown()
    gone = [e.gone for e in driver.ledger.entries()]
    assert [g.reason for g in gone if g] == ["lost", "torn down"]


def test_silence_alone_buries_nobody(folder: Path, mailbox: Mailbox) -> None:
    hold = threading.Event()

    def slow(worker: Worker, ticket: Any, attempt: int) -> str:
        hold.wait(PATIENCE_S)
        return good_work(worker, ticket, attempt)

    driver = Driver(tiny(folder), mailbox, ThreadBackend(slow))
    driver._undertaker._silent_s = 0.0
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    until(lambda: any(mailbox.claims()))
    (running,) = driver._undertaker.bury_lost(ticket_states(mailbox))
    assert running.ticket.ticket == "t0001-s1.train"
    assert not any(ended for *_, ended in mailbox.claims())
    hold.set()
    assert driver.wait("t0001-s1.store", PATIENCE_S).attempt == 1
    driver.teardown()


def test_a_users_error_fails_the_run_and_what_follows_but_no_other(
    folder: Path, mailbox: Mailbox
) -> None:
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
    with pytest.raises(RunFailed, match=r"not begun, because t0001-s2\.train did not succeed"):
        driver.wait("t0001-s2.store", PATIENCE_S)
    assert driver.decided
    driver.teardown()
    driver.close("failed")
    results = life(Driver(tiny(folder), mailbox, ThreadBackend(broken)))
    assert results["t0001-s2.train"] == "t0001-s2.train by attempt 2"
    assert set(results) == {t for t in TICKETS if "s2" in t}


def test_stop_ends_waiting_and_the_same_command_resumes(folder: Path, mailbox: Mailbox) -> None:
    def until_stopped(worker: Worker, ticket: Any, attempt: int) -> str:
        if attempt == 1 and ticket.ticket == "t0001-s1.train":
            until(lambda: worker.mailbox.cancelled() is not None)
            worker.end.set()
        return good_work(worker, ticket, attempt)

    driver = Driver(tiny(folder), mailbox, ThreadBackend(until_stopped))
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    until(lambda: any(mailbox.claims()))
    driver.stop("Ctrl-C")
    for ticket in TICKETS:
        with pytest.raises(Stopped, match="Ctrl-C") as caught:
            driver.wait(ticket, PATIENCE_S)
        assert "drillyard resume tiny" in str(caught.value.hint)
    driver.teardown()
    driver.close("cancelled")
    results = life(Driver(tiny(folder), mailbox, ThreadBackend(until_stopped)))
    assert results["t0001-s1.train"] == "t0001-s1.train by attempt 2"
    assert results["t0001-s2.train"] == "t0001-s2.train by attempt 1"


def test_attempts_that_machines_use_up_are_infrastructure(folder: Path, mailbox: Mailbox) -> None:
    driver = Driver(tiny(folder, seeds=[1]), mailbox, ThreadBackend())
    driver.open()
    for attempt in range(1, 7):
        mailbox.end(
            Ending(ticket="t0001-s1.train", attempt=attempt, status=Status.FAILED,
                   cause=Cause.INFRASTRUCTURE, message="killed by SIGKILL", by="x", ended_at=0.0)
        )  # fmt: skip
    with pytest.raises(WorkerLost, match=r"killed by SIGKILL.*used up"):
        driver.wait("t0001-s1.train", PATIENCE_S)


def test_setup_says_what_the_worker_said(folder: Path, mailbox: Mailbox) -> None:
    backend = ThreadBackend()
    backend.setup_error = "requirement foo==1 cannot be found"
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    driver.provision()
    with pytest.raises(RunFailed, match="requirement foo==1 cannot be found"):
        driver.setup(PATIENCE_S)


class HalfReady(ThreadBackend):
    """Of two workers one never comes."""

    def provision(self, order: Order) -> Lease:
        lease = super().provision(order.model_copy(update={"workers": 1}))
        return lease.model_copy(update={"order": order})


def test_setup_ends_with_the_work(folder: Path, mailbox: Mailbox) -> None:
    """Who was ready early has done everything: nobody waits for the other one."""
    backend = HalfReady()
    driver = Driver(tiny(folder, resources={"workers": 2}), mailbox, backend)
    driver.open()
    driver.provision()
    assert len(driver.setup(PATIENCE_S)) == 1
    assert all(state.status is Status.SUCCEEDED for state in driver.states().values())
    driver.teardown()
    assert len(backend.provisions) == 1 and ThreadBackend.alive == {}


def test_what_was_torn_down_during_setup_is_not_rented_again(
    folder: Path, mailbox: Mailbox
) -> None:
    backend = HalfReady(lambda worker, ticket, attempt: str(worker.end.wait(PATIENCE_S)))
    driver = Driver(tiny(folder, resources={"workers": 2}), mailbox, backend)
    driver.open()
    driver.provision()
    raised: list[BaseException] = []

    def setup() -> None:
        try:
            driver.setup(PATIENCE_S)
        except WorkerLost as error:
            raised.append(error)

    thread = threading.Thread(target=setup)
    thread.start()
    until(lambda: any(worker.state == "ready" for worker in mailbox.workers()))
    driver.teardown()
    thread.join(PATIENCE_S)
    assert len(raised) == 1
    assert len(backend.provisions) == 1 and ThreadBackend.alive == {}


def test_a_lease_that_dies_in_setup_shows_its_last_lines(
    folder: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drillyard.driver.SETUP_REPLACEMENTS", 0)
    backend = ThreadBackend()
    driver = Driver(tiny(folder, resources={"workers": 2}), mailbox, backend)
    driver.open()
    lease = driver.provision()
    backend.worker(lease).die()
    backend.worker(lease).join()
    mailbox.store.delete(mailbox.key(f"workers/{backend.worker(lease).worker}.json"))
    with pytest.raises(WorkerLost, match="out of disc"):
        driver.setup(PATIENCE_S)


def test_the_intent_is_on_disk_before_anything_is_asked_for(
    folder: Path, mailbox: Mailbox, tmp_path: Path
) -> None:
    backend = ThreadBackend()
    backend.unreachable = 1
    driver = Driver(tiny(folder), mailbox, backend)
    driver.open()
    with pytest.raises(InfrastructureError):
        driver.provision()
    (intent,) = local_intents()
    assert list((tmp_path / "home" / "intents").iterdir())
    # The same id is asked for again: what the lost answer may have made is found, not doubled.
    assert driver.provision().lease_id == intent.order.lease_id
    assert driver.ledger.next_lease()[0] == 2
    driver.teardown()
    assert list(local_intents()) == []


def test_an_unconfirmed_teardown_is_said_and_mended_later(folder: Path, mailbox: Mailbox) -> None:
    backend = ThreadBackend()
    driver = Driver(tiny(folder), mailbox, backend)
    todo = driver.open()
    lease = driver.provision()
    driver.setup(PATIENCE_S)
    for ticket in todo:
        driver.wait(ticket.ticket, PATIENCE_S)
    backend.undeletable = True
    with pytest.raises(TeardownUnconfirmed, match=lease.lease_id):
        driver.teardown(timeout_s=0.5)
    assert [i.order.lease_id for i in local_intents()] == [lease.lease_id]
    driver.close("teardown unconfirmed")
    backend.undeletable = False
    assert Driver(tiny(folder), mailbox, backend).open() == []
    assert ThreadBackend.alive == {}
    assert list(local_intents()) == []


def test_a_used_up_budget_rents_nothing(folder: Path, mailbox: Mailbox) -> None:
    backend = ThreadBackend()
    backend.price = 3600.0
    loaded = tiny(folder, budget={"max_cost": 100.0})
    driver = Driver(loaded, mailbox, backend)
    driver.open()
    order = driver.provision().order
    assert order.deadline is not None
    assert order.workers == 2
    assert order.deadline - time.time() == pytest.approx(50.0, abs=2.0)
    assert order.deadline_of == "budget.max_cost = 100"
    driver.teardown()
    intent = driver.ledger.entries()[0].intent
    mailbox.write(f"leases/{order.lease_id}/intent.json",
                  intent.model_copy(update={"written_at": time.time() - 60}))  # fmt: skip
    gone = driver.ledger.entries()[0].gone
    assert gone is not None
    mailbox.write(f"leases/{order.lease_id}/gone.json", gone.model_copy(update={"lived_s": 60.0}))
    with pytest.raises(TimedOut, match=r"budget\.max_cost = 100 is used up"):
        driver.provision()
    assert backend.provisions == [order.lease_id]


def test_a_result_is_seen_within_half_a_second(folder: Path, mailbox: Mailbox) -> None:
    driver = Driver(tiny(folder, seeds=[1]), mailbox, ThreadBackend())
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    accepted = driver.wait("t0001-s1.store", PATIENCE_S)
    assert time.time() - accepted.ended_at < 0.5 + 0.5  # half a second, and a slow machine
    driver.teardown()


def test_logs_are_read_in_order_and_once(folder: Path, mailbox: Mailbox) -> None:
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    put, run = mailbox.store.put, "tiny/runs/t0001-s1/attempts"
    put(f"{run}/train-1/logs/000000.txt", b"a\nb\n")
    put(f"{run}/train-2/logs/000000.txt", b"c\n")
    put(f"{run}/evaluate-1/logs/000000.txt", b"d\n")
    assert driver.logs("t0001-s1") == ["a", "b", "c", "d"]
    put(f"{run}/evaluate-1/logs/000001.txt", b"e\n")
    assert driver.logs("t0001-s1", since=4) == ["e"]


def test_seeds_that_nobody_began_are_taken_back(folder: Path, mailbox: Mailbox) -> None:
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    driver.open()
    driver.close("left")
    results = life(Driver(tiny(folder, seeds=[2]), mailbox, ThreadBackend()))
    assert set(results) == {t for t in TICKETS if "s2" in t}
    assert mailbox.accepted("t0001-s1", Phase.TRAIN) is None


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


def test_tickets_are_pushed_once_where_workers_do_not_pull(
    folder: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drillyard.watcher.TEND_S", 0.05)
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


def test_a_store_that_is_away_decides_nothing_for_a_while(
    folder: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(tiny(folder), mailbox, ThreadBackend())
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    real, away = mailbox.claims, threading.Event()
    failures = []

    def claims() -> Any:
        if away.is_set():
            failures.append(1)
            raise StoreUnavailable("no route to host")
        return real()

    monkeypatch.setattr(mailbox, "claims", claims)
    away.set()
    until(lambda: len(failures) >= 2)
    away.clear()
    assert driver.wait("t0001-s2.store", PATIENCE_S).attempt == 1
    driver._watcher._patience_s = 0.2
    away.set()
    with pytest.raises(StoreUnavailable, match="no route to host"):
        driver.wait("t0009-s9.train", PATIENCE_S)
    away.clear()
    driver.teardown()
    assert ThreadBackend.alive == {}


def test_a_lease_that_nothing_ends_at_its_limit_is_ended_by_the_driver(
    folder: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drillyard.tenancy.MIN_LIFE_S", 0.1)
    monkeypatch.setattr("drillyard.driver.OVERDUE_S", 0.2)

    def never(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        worker.end.wait(PATIENCE_S)
        raise ValueError("ended")

    backend = ThreadBackend(never)
    driver = Driver(tiny(folder, budget={"max_hours": 1.0 / 3600.0}), mailbox, backend)
    todo = driver.open()
    driver.provision()
    driver.setup(timeout_s=PATIENCE_S)
    with pytest.raises(TimedOut, match="max_hours"):
        driver.wait(todo[0].ticket, timeout_s=PATIENCE_S)
    driver.teardown()
    driver.close("timed out")
    assert ThreadBackend.alive == {}
    assert all(not entry.open for entry in driver.ledger.entries())
