"""Claims of an earlier worker of the lease here are closed once it is dead, and not before."""

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import STALE_S, host
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, Phase, TicketRecord, WorkerRecord
from drillyard.mailbox.status import Cause
from drillyard.system.machine_identity import boot_id, pid_namespace
from drillyard.system.processes import ProcessId
from drillyard.testing.clock import FakeClock
from drillyard.worker.orphans import AGAIN_S, OrphanCloser, worker_id

LEASE = "dy-0123456789"
TICKET = "t0001-s1.train"
URL = "memory://orphans"
HERE = {"boot_id": boot_id(), "pid_namespace": pid_namespace()}
REBOOTED = {**HERE, "boot_id": "the boot before"}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def mailbox(clock):
    yield Mailbox(MemoryStore(URL, clock), "x")
    MemoryStore.forget(URL)


def record(worker, **more):
    values = {"pid": 4_100_000, "pid_started": 1.0, "written_at": 0.0, **more}
    return WorkerRecord(worker=worker, lease=LEASE, host=host(), **values)


def other(mailbox, **more):
    """Another worker of the lease on this machine, with a claim."""
    worker = worker_id(LEASE)
    mailbox.write(f"workers/{worker}.json", record(worker, **more))
    mailbox.post(
        TicketRecord(ticket=TICKET, run="t0001-s1", phase=Phase.TRAIN, order=0, posted_at=0.0)
    )
    mailbox.claim(Claim(ticket=TICKET, attempt=1, worker=worker, token="t", claimed_at=0.0))
    return worker


def starting(mailbox, clock, orphans=list):
    me = ProcessId.current()
    mine = record(worker_id(LEASE), pid=me.pid, pid_started=me.started, **HERE)
    return OrphanCloser(mailbox, me, mine, orphans, clock, Cause.PREEMPTION)


def test_one_whose_process_is_dead_on_this_system_is_closed_at_once(mailbox, clock):
    other(mailbox, **HERE)
    assert starting(mailbox, clock).step(clock.monotonic()) is None
    assert mailbox.ending(TICKET, 1).cause is Cause.PREEMPTION


def test_one_that_lives_on_this_system_is_a_neighbour(mailbox, clock):
    me = ProcessId.current()
    other(mailbox, **HERE, pid=me.pid, pid_started=me.started)
    assert starting(mailbox, clock).step(clock.monotonic()) is None
    assert mailbox.ending(TICKET, 1) is None


def test_one_of_another_system_is_closed_when_it_stays_silent(mailbox, clock):
    """A machine that was started again under its name: its pids say nothing any more."""
    other(mailbox, **REBOOTED)
    starter = starting(mailbox, clock)
    waited = 0.0
    while (wait := starter.step(clock.monotonic())) is not None:
        assert mailbox.ending(TICKET, 1) is None
        clock.advance(wait)
        waited += wait
    assert mailbox.ending(TICKET, 1).cause is Cause.PREEMPTION
    assert STALE_S <= waited <= STALE_S + 2 * AGAIN_S


def test_one_of_another_system_that_is_heard_is_a_neighbour(mailbox, clock):
    """Finding L3: a container on the host's network has our host name and pids of its own."""
    worker = other(mailbox, **REBOOTED)
    starter = starting(mailbox, clock)
    while (wait := starter.step(clock.monotonic())) is not None:
        clock.advance(wait)
        mailbox.write(f"workers/{worker}.json", record(worker, **REBOOTED, beat=1))
    assert mailbox.ending(TICKET, 1) is None


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_store_that_was_away_makes_nobody_silent(mailbox, clock, looks):
    """The first look after an outage sees old heartbeats of all; the living ones follow."""
    worker = other(mailbox, **REBOOTED)
    clock.advance(10 * STALE_S)
    starter = starting(mailbox, clock)
    for _ in range(looks):
        wait = starter.step(clock.monotonic())
        assert wait is not None and mailbox.ending(TICKET, 1) is None
        clock.advance(wait)
    mailbox.write(f"workers/{worker}.json", record(worker, **REBOOTED, beat=1))
    assert starter.step(clock.monotonic()) is None
    assert mailbox.ending(TICKET, 1) is None


def test_processes_are_asked_for_only_when_one_has_died(mailbox, clock):
    asked = []
    starting(mailbox, clock, lambda: asked.append(1) or []).step(clock.monotonic())
    assert not asked
    other(mailbox, **HERE)
    starting(mailbox, clock, lambda: asked.append(1) or []).step(clock.monotonic())
    assert asked
