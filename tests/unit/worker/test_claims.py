"""Whose claims a worker closes, and when it may claim: restarts, clones, stores that are away."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import StoreUnavailable, Superseded
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import STALE_S, host
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, Manifest, Phase, RunRecord, TicketRecord, WorkerRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import SYSTEM
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.system.processes import ProcessId
from drillyard.testing.clock import FakeClock
from drillyard.worker.hand_in import HandIn
from drillyard.worker.orphans import AGAIN_S, OrphanCloser, worker_id
from tests.helpers.worker_world import PlayedWorker

# -- Claims of an earlier worker of the lease here are closed once it is dead, and not before -


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


# -- A machine that was cloned, or set back, while it worked: two processes with one identity -


CLONED_URL = "memory://cloned-machine"
RUN = "t0001-s1"
CLAIM = Claim(
    ticket=f"{RUN}.train", attempt=1, worker="w", lease="dy-0123456789", token="t", claimed_at=0.0
)
CLONED_TICKET = TicketRecord(ticket=CLAIM.ticket, run=RUN, phase=Phase.TRAIN, posted_at=0.0)


@pytest.fixture
def cloned_mailbox():
    made = Mailbox(MemoryStore(CLONED_URL), "x")
    assert made.claim(CLAIM)
    yield made
    MemoryStore.forget(CLONED_URL)


def context(cloned_mailbox: Mailbox, scratch: Path) -> RunContext:
    """The work as either of the two sees it."""
    run = RunRecord(run=RUN, experiment="x", seed=1)
    spec = ExperimentSpec(name="x", workload="mock")
    return RunContext(spec, run, Phase.TRAIN, 1, CLAIM, cloned_mailbox, scratch)


def hand_in(cloned_mailbox: Mailbox, files: Manifest, ended_at: float) -> HandIn:
    return HandIn(
        cloned_mailbox, CLAIM, CLONED_TICKET, PhaseOutcome(files=files), ended_at, SYSTEM
    )


def test_the_result_of_the_first_stays(cloned_mailbox, tmp_path):
    first, copy = context(cloned_mailbox, tmp_path), context(cloned_mailbox, tmp_path)
    slow = Manifest(files={"policy": copy.save("policy", b"of the copy")})
    files = Manifest(files={"policy": first.save("policy", b"of the first")})
    assert hand_in(cloned_mailbox, files, 1.0)().status is Status.SUCCEEDED
    accepted = cloned_mailbox.accepted(RUN, Phase.TRAIN)
    # The copy is a little behind: at a file, and at its manifest.
    with pytest.raises(Superseded, match="has a result already"):
        copy.save("policy", b"of the copy")
    ending = hand_in(cloned_mailbox, slow, 2.0)()
    assert ending.status is Status.SUCCEEDED and "result of attempt 1 is valid" in ending.message
    assert cloned_mailbox.accepted(RUN, Phase.TRAIN) == accepted and accepted is not None
    assert cloned_mailbox.read_file(cloned_mailbox.manifest(accepted), "policy") == b"of the first"


def test_an_answer_that_was_lost_is_no_copy(cloned_mailbox, tmp_path):
    files = Manifest(files={"policy": context(cloned_mailbox, tmp_path).save("policy", b"it")})
    call = hand_in(cloned_mailbox, files, 1.0)
    assert call().message == call().message == ""


# -- A worker claims nothing before its own record is in the store: a loss could not be found -


BACK_S = 30.0


def test_a_worker_whose_record_is_refused_waits_with_its_first_claim(world, monkeypatch):
    """Whoever finds its claim later reads there which lease it is of."""
    run = world.post(1)
    PlayedWorker(world)
    put = world.store.put

    def refused(key: str, data: bytes) -> None:
        if "/workers/" in key and world.now < BACK_S:
            raise StoreUnavailable("503")
        put(key, data)

    monkeypatch.setattr(world.store, "put", refused)
    world.run(BACK_S - 1.0)
    assert world.mailbox.workers() == []
    assert ticket_states(world.mailbox)[f"{run}.train"].status is Status.READY
    world.run(BACK_S + 60.0)
    claim = world.mailbox.read_claim(f"{run}.train", 1)
    assert claim is not None and claim.claimed_at >= world.clock.now() - 60.0
    assert world.mailbox.accepted(run, Phase.TRAIN) is not None
