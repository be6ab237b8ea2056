"""A worker's decisions, step by step, with a clock that only the test moves."""

from __future__ import annotations

import signal

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.worker import endings
from drillyard.worker.worker import STORE_AWAY_S
from tests.helpers.worker_world import PlayedWorker, World

PHASES = (Phase.TRAIN, Phase.EVALUATE, Phase.STORE)


def state(world, run, phase=Phase.TRAIN):
    return ticket_states(world.mailbox)[f"{run}.{phase}"]


def test_a_run_is_claimed_done_and_followed_up_and_the_worker_leaves(world):
    runs = [world.post(seed, PHASES) for seed in (1, 2)]
    worker = PlayedWorker(world, slots=2)
    world.run(100.0)
    for run in runs:
        for phase in PHASES:
            assert state(world, run, phase).status is Status.SUCCEEDED
            assert world.mailbox.accepted(run, phase).attempt == 1
    assert worker.worker.exit_code == 0
    assert worker.machine.closed
    assert 30.0 <= worker.ended_at <= 45.0
    (record,) = world.mailbox.workers()
    assert (record.state, record.message) == ("leaving", "nothing left to do")


def test_slots_are_kept_to(world):
    for seed in range(1, 6):
        world.post(seed)
    worker = PlayedWorker(world, slots=2)
    busiest = 0

    def count(now):
        nonlocal busiest
        running = sum(ticket.poll() is None for ticket in worker.machine.tickets)
        busiest = max(busiest, running)
        return 0.1

    world.add("count", count)
    world.run(100.0)
    assert busiest == 2
    assert len(worker.machine.tickets) == 5
    assert sorted(t.job.place for t in worker.machine.tickets) == [0, 0, 0, 1, 1]


def test_trainings_that_are_computed_together_have_one_process(world):
    runs = [world.post(seed, PHASES) for seed in range(1, 6)]
    worker = PlayedWorker(world, slots=2, order={"together": 2})
    world.run(200.0)
    trained = [t.job.all for t in worker.machine.tickets if t.job.ticket.phase is Phase.TRAIN]
    assert [len(jobs) for jobs in trained] == [2, 2, 1]
    assert {job.ticket.run for jobs in trained for job in jobs} == {*runs}
    assert {job.together for jobs in trained for job in jobs} == {2}
    others = [t.job for t in worker.machine.tickets if t.job.ticket.phase is not Phase.TRAIN]
    assert len(others) == 10 and not any(job.others for job in others)
    assert {t.job.place for t in worker.machine.tickets} == {0, 1}
    for run in runs:
        assert state(world, run, Phase.STORE).status is Status.SUCCEEDED


def test_when_their_process_dies_each_gets_its_ending(world):
    done, broken, other = (world.post(seed) for seed in (1, 2, 3))
    worker = PlayedWorker(world, work_s=50.0, order={"together": 3})

    def die():
        (process,) = worker.machine.tickets
        assert [job.ticket.run for job in process.job.all] == [done, broken, other]
        ending = endings.succeeded(process.job.claim, world.clock)
        assert world.mailbox.end(ending)  # the first has reported
        process.kill()

    world.at(10.0, die)
    world.run(30.0)
    assert world.mailbox.ending(f"{done}.train", 1).status is Status.SUCCEEDED
    for run in (broken, other):
        assert world.mailbox.ending(f"{run}.train", 1).cause is Cause.INFRASTRUCTURE
    world.run(200.0)
    assert len(worker.machine.tickets[1].job.all) == 2  # and they go on together
    assert state(world, other).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("code", "ends_as"),
    [(-signal.SIGSEGV, Status.FAILED), (-signal.SIGALRM, Status.TIMED_OUT)],
)
def test_a_run_that_always_ends_its_process_takes_no_neighbour_with_it(world, code, ends_as):
    """It crashes, or hangs in native code: its neighbours lost all their attempts with it."""
    good, bad, other = (world.post(seed) for seed in (1, 2, 3))
    worker = PlayedWorker(world, work_s=20.0, order={"together": 3})

    def crash():
        for process in worker.machine.tickets:
            if process.alive and bad in {job.ticket.run for job in process.job.all}:
                process.kill(code)

    for time_s in range(5, 400, 5):
        world.at(float(time_s), crash)
    world.run(400.0)
    assert [len(each.job.all) for each in worker.machine.tickets[:3]] == [3, 3, 1]
    for run in (good, other):
        assert (state(world, run).status, state(world, run).attempt) == (Status.SUCCEEDED, 3)
    assert state(world, bad).status is ends_as


def test_the_attempts_of_a_run_that_is_lost_again_and_again_are_apart(world):
    """What lasts for seconds, such as a store that refuses everything, uses up few attempts."""
    bad, good = world.post(1), world.post(2)
    worker = PlayedWorker(world, slots=2, work_s=20.0)
    lost: list[float] = []
    began: list[float] = []

    def crash(now):
        for process in worker.machine.tickets:
            if process.alive and process.job.ticket.run == bad:
                began.append(process.job.claim.claimed_at)
                lost.append(world.clock.now())
                process.kill()
        return 0.1

    world.add("crash", crash)
    world.run(100.0)
    pauses = [after - before for before, after in zip(lost, began[1:], strict=False)]
    assert len(pauses) == 5
    for pause, least in zip(pauses, [1.0, 2.0, 4.0, 8.0, 8.0], strict=True):
        assert least <= pause <= least + 4.0, pauses
    assert state(world, bad).status is Status.FAILED
    assert state(world, good).status is Status.SUCCEEDED
    assert world.mailbox.accepted(good, Phase.TRAIN).attempt == 1


def test_endings_are_written_once_also_if_the_store_fails_between_them(world, monkeypatch):
    """The process died after one of three had reported, and the store was away then."""
    done, *others = (world.post(seed) for seed in (1, 2, 3))
    worker = PlayedWorker(world, work_s=50.0, order={"together": 3})

    def die():
        (process,) = worker.machine.tickets
        assert world.mailbox.end(endings.succeeded(process.job.claim, world.clock))
        world.store.away = True
        process.kill()

    def back():
        world.store.away = False

    world.at(10.0, die)
    world.at(25.0, back)
    world.run(30.0)
    assert world.mailbox.ending(f"{done}.train", 1).status is Status.SUCCEEDED
    assert {world.mailbox.ending(f"{run}.train", 1).cause for run in others} == {
        Cause.INFRASTRUCTURE
    }
    world.run(200.0)
    assert {state(world, run).attempt for run in others} == {2}
    assert {state(world, run).status for run in others} == {Status.SUCCEEDED}


@pytest.mark.parametrize("mark", [b"", b"\xff{", b"{}", b'{"schema_version": 9, "stop": 1}'])
def test_an_order_to_stop_that_cannot_be_read_ends_nothing_and_begins_nothing(world, mark):
    """What runs may finish; nothing new begins; a person decides (``Mailbox.cancelled``)."""
    running, waiting = world.post(1), world.post(2)
    worker = PlayedWorker(world, slots=1, work_s=30.0)
    key = world.mailbox.key("control/cancel.json")
    world.at(10.0, lambda: world.store.put(key, mark))
    world.run(100.0)
    assert state(world, running).status is Status.SUCCEEDED
    assert len(worker.machine.tickets) == 1
    assert state(world, waiting).status is Status.CANCELLED
    order = world.mailbox.cancelled()
    assert order is not None and order.drain and "cannot be read" in order.reason


def test_a_stop_is_for_all_that_are_computed_together(world):
    runs = [world.post(seed) for seed in (1, 2)]
    worker = PlayedWorker(world, work_s=500.0, order={"together": 2})
    world.at(10.0, worker.terminate)
    world.run(60.0)
    for run in runs:
        assert world.mailbox.ending(f"{run}.train", 1).cause is Cause.PREEMPTION


@pytest.mark.parametrize("patience_s", [0.0, 45.0])
def test_an_outage_costs_no_attempt(world, patience_s):
    run = world.post(1)
    worker = PlayedWorker(world, work_s=10.0)

    def away():
        world.store.away, world.store.patience_s = True, patience_s

    def back():
        world.store.away = False

    world.at(5.0, away)
    world.at(50.0, back)
    world.run(40.0)
    assert state(world, run).status is Status.RUNNING
    world.run(200.0)
    assert state(world, run).status is Status.SUCCEEDED
    assert world.mailbox.accepted(run, Phase.TRAIN).attempt == 1
    assert worker.worker.exit_code == 0


def test_after_a_long_outage_the_worker_says_what_its_ticket_could_not(world):
    run = world.post(1)
    PlayedWorker(world, work_s=10.0)
    world.at(5.0, lambda: setattr(world.store, "away", True))
    world.at(300.0, lambda: setattr(world.store, "away", False))
    world.run(310.0)
    first = world.mailbox.ending(f"{run}.train", 1)
    assert first.cause is Cause.INFRASTRUCTURE
    world.run(400.0)
    assert state(world, run).status is Status.SUCCEEDED
    assert world.mailbox.accepted(run, Phase.TRAIN).attempt == 2


@pytest.mark.parametrize("away", [True, False])
def test_a_claim_whose_answer_is_lost_costs_no_run(world, monkeypatch, away):
    run = world.post(1)
    PlayedWorker(world)
    real, lost = world.store.put_if_absent, []

    def lose_one(key, data):
        made = real(key, data)
        if key.endswith(".train.1.json") and not lost:
            lost.append(key)
            world.store.away = away
            raise StoreUnavailable("the answer was lost")
        return made

    monkeypatch.setattr(world.store, "put_if_absent", lose_one)
    world.at(50.0, lambda: setattr(world.store, "away", False))
    world.run(100.0)
    assert lost
    assert state(world, run).status is Status.SUCCEEDED
    # Where nobody could look whose claim it is, it is given up as soon as the store is back.
    assert world.mailbox.accepted(run, Phase.TRAIN).attempt == (2 if away else 1)


def test_without_work_and_without_a_store_it_leaves(world):
    worker = PlayedWorker(world, order={"idle_s": 1e6})
    world.at(5.0, lambda: setattr(world.store, "away", True))
    world.run(STORE_AWAY_S)
    assert worker.ended_at is None
    world.run(STORE_AWAY_S + 30.0)
    assert worker.worker.exit_code == 0


def test_a_cancel_stops_what_runs_and_takes_nothing_new(world):
    runs = [world.post(seed) for seed in (1, 2)]
    worker = PlayedWorker(world, work_s=100.0)
    world.at(20.0, world.cancel)
    world.run(60.0)
    assert world.mailbox.ending(f"{runs[0]}.train", 1).cause is Cause.CANCELLED
    assert len(worker.machine.tickets) == 1
    assert {state(world, run).status for run in runs} == {Status.CANCELLED}
    assert worker.worker.exit_code == 0


def test_a_deaf_ticket_is_killed_and_its_ending_said(world):
    run = world.post(1)
    worker = PlayedWorker(world, work_s=1e6)
    worker.machine.deaf = True
    world.at(20.0, world.cancel)
    world.run(60.0)
    ending = world.mailbox.ending(f"{run}.train", 1)
    assert ending.cause is Cause.CANCELLED and "was killed" in ending.message
    assert worker.machine.tickets[0].killed_at - worker.machine.tickets[0].asked_at >= 20.0


def test_the_end_of_the_leases_time_ends_the_work(world):
    run = world.post(1)
    deadline = world.clock.now() + 50.0
    limit = "budget.max_hours = 0.01"
    worker = PlayedWorker(world, work_s=1e6, order={"deadline": deadline, "deadline_of": limit})
    world.run(100.0)
    ending = world.mailbox.ending(f"{run}.train", 1)
    assert (ending.cause, ending.message) == (Cause.TIME_LIMIT, f"{limit} ended the lease")
    assert 50.0 <= worker.ended_at <= 55.0


# -- tickets that are handed ----------------------------------------------------------------------


# -- who drives ---------------------------------------------------------------------------------


def test_a_look_for_a_driver_reads_the_newest_record_alone(world):
    for _ in range(30):
        lock = DriverLock(world.mailbox, world.clock)
        lock.take(["test"])
        lock.release("done")
    world.post(1)
    PlayedWorker(world, work_s=100.0)
    world.run(60.0)
    read = {key for key in world.store.reads if "/driver/" in key}
    assert read == {"x/driver/30.json"}


# -- the world itself -----------------------------------------------------------------------------


def test_the_same_world_twice_is_the_same_to_the_last_step(request):
    traces = []
    for number in (1, 2):
        world = World(f"{request.node.name}-{number}")
        for seed in (1, 2, 3):
            world.post(seed, PHASES)
        worker = PlayedWorker(world, slots=2)
        world.at(12.0, lambda world=world: setattr(world.store, "away", True))
        world.at(40.0, lambda world=world: setattr(world.store, "away", False))
        world.at(70.0, worker.terminate)
        world.run(200.0)
        traces.append(world.trace)
        MemoryStore.forget(world.url)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 300
