"""Hundreds of machines in one experiment: what one look reads does not grow with all of them."""

import os
import threading
from collections import Counter

import pytest

from drillyard.backend import Liveness, Order
from drillyard.driver.watcher import BOARDS_A_LOOK, Watcher
from drillyard.leases.ledger import Intent, Ledger
from drillyard.leases.lost_attempts import LostAttemptCloser
from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Board, Claim, Phase, TicketRecord, WorkerRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.system.processes import ProcessId
from drillyard.testing.clock import FakeClock
from drillyard.worker.orphans import OrphanCloser, worker_id
from drillyard_backends.gcp.records import holder_of
from drillyard_backends.gcp.self_delete import DELETES_A_SECOND, SelfDelete
from tests.helpers.records import claim_of, tell_worker, ticket_of
from tests.helpers.tiny_backend import ThreadBackend

LEASE = "dy-0123456789"
MANY = 200
URL = "memory://many"


class Counting(MemoryStore):
    """Counts reads of single objects, by the folder that they are in."""

    def __init__(self, clock):
        super().__init__(URL, clock)
        self.reads = Counter()

    def get(self, key):
        self.reads[key.split("/")[1]] += 1
        return super().get(key)

    def stat(self, key):
        self.reads[key.split("/")[1]] += 1
        return super().stat(key)


class Bucket(Counting):
    """Its listings return the bytes of small objects, as those of buckets do."""

    pace_s = 2.0

    def put_listed(self, key, data):
        self.put(key, data)

    def contents(self, prefix):
        self.reads["listings"] += 1
        for info in self.list(prefix):
            damaged = info.key.endswith("s7.json")
            yield info, b"{" if damaged else MemoryStore.get(self, info.key)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def mailbox(clock):
    yield Mailbox(Counting(clock), "x")
    MemoryStore.forget(URL)


def say(mailbox, number, state="ready", beat=0):
    told = {"host": f"m{number}", "state": state, "beat": beat, "pid": 99, "pid_started": 1.0}
    tell_worker(mailbox, f"{LEASE}-{number:04}", LEASE, **told)


def test_a_heartbeat_is_no_reason_to_read_a_worker_again(mailbox):
    for number in range(MANY):
        say(mailbox, number, "starting" if number < 3 else "ready")
    seen = {}
    mailbox.workers(seen, settled=("ready",))
    mailbox.store.reads.clear()
    for number in range(MANY):
        say(mailbox, number, "failed" if number == 0 else "ready", beat=1)
    states = Counter(w.state for w in mailbox.workers(seen, settled=("ready",)))
    assert states == {"ready": MANY - 1, "failed": 1}
    assert mailbox.store.reads["workers"] == 3


def test_the_silent_one_of_many_is_found_by_one_listing(mailbox, clock):
    backend = ThreadBackend()
    backend.probe = lambda lease, ticket=None: Liveness.GONE  # whom it is asked about
    order = Order(lease_id=LEASE, experiment="x", workers=MANY, store_url=URL)
    ledger = Ledger(mailbox, clock)
    mailbox.write(f"leases/{LEASE}/intent.json", _intent(order))
    states = {}
    for number in range(MANY):
        ticket = f"t0001-s{number}.train"
        record = ticket_of(f"t0001-s{number}")
        mailbox.post(record)
        worker = f"{LEASE}-{number:04}"
        mailbox.claim(Claim(ticket=ticket, attempt=1, worker=worker, token="t", claimed_at=0.0))
        states[ticket] = _running(record)
        say(mailbox, number)
    closer = LostAttemptCloser(mailbox, backend, ledger, "me", clock)
    assert len(closer.close_lost(states)) == MANY
    mailbox.store.reads.clear()
    for beat in range(5):
        clock.advance(10.0)
        for number in range(1, MANY):  # all but the first
            say(mailbox, number, beat=beat)
        living = closer.close_lost(states)
    assert len(living) == MANY - 1
    assert mailbox.ending("t0001-s0.train", 1) is not None
    assert mailbox.store.reads["workers"] == 0


def test_an_agent_reads_only_the_records_of_its_own_machine(mailbox, clock):
    for number in range(MANY):
        say(mailbox, number)
    mine = WorkerRecord(
        worker=worker_id(LEASE), lease=LEASE, host="", pid=1, pid_started=1.0, written_at=0.0
    )
    mailbox.store.reads.clear()
    OrphanCloser(mailbox, ProcessId.current(), mine, list, clock).step(0.0)
    assert mailbox.store.reads["workers"] == 0


def test_progress_of_hundreds_is_read_in_turns(mailbox):
    runs = [f"t0001-s{number}" for number in range(3 * BOARDS_A_LOOK)]
    watcher = Watcher(mailbox)
    for run in runs:
        mailbox.write(f"board/{run}.json", _board(run))
    watcher._states = _at_work(runs)
    for look in range(1, 4):
        watcher._read_boards()
        assert mailbox.store.reads["board"] == look * BOARDS_A_LOOK
    assert all(watcher.board(run) for run in runs)


def test_progress_is_read_only_of_runs_at_work(tmp_path):
    """A study has thousands of runs that ended, and a few that are at work."""
    old, new, last = "t0001-s1", "t0002-s1", "t0003-s1"
    mailbox = Mailbox(FileStore(str(tmp_path)), "x")
    watcher = Watcher(mailbox)
    for run in (old, new, last):
        mailbox.write(f"board/{run}.json", _board(run))
    watcher._states = _at_work([new, last])
    watcher._read_boards()
    assert watcher.board(old) is None and watcher.board(new) is not None
    for step in (77, 78):
        mailbox.write(f"board/{last}.json", _board(last).model_copy(update={"step": step}))
        os.utime(mailbox.store.path(mailbox.key(f"board/{last}.json")), (step, step))
        watcher._states = _at_work([new])
        watcher._read_boards()
    assert watcher.board(last).step == 77  # written just before its end was seen, and not later


def test_progress_of_hundreds_is_one_listing_of_a_bucket(clock):
    mailbox = Mailbox(Bucket(clock), "x")
    runs = [f"t0001-s{number}" for number in range(MANY)]
    for run in runs:
        mailbox.write(f"board/{run}.json", _board(run), listed=True)
    watcher = Watcher(mailbox, clock)
    looks = 60
    for look in range(looks):
        if look == looks // 2:
            again = _board(runs[3]).model_copy(update={"step": 77})
            mailbox.write(f"board/{runs[3]}.json", again, listed=True)
        watcher._read_boards()
        clock.advance(1.0)
    MemoryStore.forget(URL)
    assert all(watcher.board(run) for run in runs)
    assert watcher.board(runs[3]).step == 77
    # Listings of a hundred boards and more are large, so they are fewer; a copy that is damaged
    # is not believed, and the object is read once.
    assert 9 <= mailbox.store.reads["listings"] <= 11
    assert mailbox.store.reads["board"] == 1


def test_workers_of_a_bucket_are_read_from_its_listing(clock):
    mailbox = Mailbox(Bucket(clock), "x")
    for number in range(3):
        say(mailbox, number)
    seen = {}
    assert len(mailbox.workers(seen, settled=("ready",))) == 3
    say(mailbox, 1, "leaving")
    states = [worker.state for worker in mailbox.workers(seen, settled=("ready",))]
    MemoryStore.forget(URL)
    assert states == ["ready", "leaving", "ready"]
    assert mailbox.store.reads["workers"] == 0


def test_machines_of_a_large_group_do_not_all_ask_at_once(mailbox, monkeypatch):
    waits = []
    clock = FakeClock()
    monkeypatch.setattr(clock, "wait", lambda event, seconds: waits.append(seconds))
    order = Order(lease_id=LEASE, experiment="x", workers=MANY, store_url=URL)
    for number in range(MANY):
        SelfDelete(mailbox, order, None, "m", str(number), clock).wait(threading.Event())
    assert 0.5 * MANY / DELETES_A_SECOND < max(waits) <= MANY / DELETES_A_SECOND
    alone = order.model_copy(update={"workers": 1})
    SelfDelete(mailbox, alone, None, "m", "1", clock).wait(threading.Event())
    assert waits[-1] == 0.0


def _intent(order):
    return Intent(order=order, backend="thread", ordinal=1, written_at=0.0)


def _at_work(runs):
    tickets = [
        TicketRecord(ticket=f"{run}.train", run=run, phase=Phase.TRAIN, order=0, posted_at=0.0)
        for run in runs
    ]
    return {ticket.ticket: _running(ticket) for ticket in tickets}


def _running(record):
    return TicketState(record, Status.RUNNING, 1)


def _board(run):
    return Board(
        run=run, phase=Phase.TRAIN, status=Status.RUNNING, attempt=1, worker="w", written_at=0.0
    )


def test_the_machine_of_a_ticket_is_found_among_many_by_three_reads(mailbox):
    for number in range(MANY):
        say(mailbox, number)
        worker = f"{LEASE}-{number:04}"
        mailbox.claim(claim_of(f"t0001-s{number}.train", worker=worker))
    mailbox.store.reads.clear()
    assert holder_of(mailbox, LEASE, "t0001-s1.train").name == "m1"
    assert holder_of(mailbox, "dy-9999999999", "t0001-s1.train") is None
    assert mailbox.store.reads == {"claims": 2, "workers": 2, "leases": 1}
