"""SIGTERM to a worker, step by step, with a clock that only the test moves."""

from __future__ import annotations

import pytest

from drillyard.mailbox.status import Cause
from drillyard.worker.loop import LAST_STEP_S
from drillyard.worker.worker import ASK_S, FLUSH_S, TERM_GRACE_S
from tests.helpers.worker_world import PlayedWorker
from tests.unit.worker.test_steps import state

EXIT_S = 30.0
"""From SIGTERM to the end of the process, at most."""
LAST_WORDS_S = 2.0
"""What a rented machine's program may do after its worker has ended."""


def test_sigterm_stops_the_tickets_and_hands_them_on(world):
    run = world.post(1)
    worker = PlayedWorker(world, work_s=1e6)
    world.at(20.0, worker.terminate)
    world.run(60.0)
    assert world.mailbox.ending(f"{run}.train", 1).cause is Cause.PREEMPTION
    assert state(world, run).claimable == 2
    assert worker.ended_at - 20.0 <= 3.0
    assert worker.worker.exit_code == 0


def test_sigterm_after_a_cancel_is_no_preemption(world):
    run = world.post(1)
    worker = PlayedWorker(world, work_s=1e6)
    worker.machine.deaf = True
    world.at(20.0, world.cancel)
    world.at(20.1, worker.terminate)
    world.run(60.0)
    assert world.mailbox.ending(f"{run}.train", 1).cause is Cause.CANCELLED


@pytest.mark.parametrize("deaf", [True, False])
@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("when_s", [20.0, 21.0, 100.0])
def test_sigterm_in_an_outage_ends_the_process_in_time(world, deaf, paid, when_s):
    """Finding L14: it took three minutes. Each call tries for 45 s before it gives up."""
    for seed in (1, 2, 3):
        world.post(seed)
    grace_s = 20.0 if paid else TERM_GRACE_S
    worker = PlayedWorker(world, slots=3, work_s=1e6, paid=paid, term_grace_s=grace_s)
    worker.machine.deaf = deaf

    def away():
        world.store.away, world.store.patience_s = True, 45.0

    world.at(20.0, away)
    world.at(when_s, worker.terminate)
    world.run(when_s + 300.0)
    assert worker.ended_at - when_s + LAST_STEP_S + LAST_WORDS_S <= EXIT_S
    for ticket in worker.machine.tickets:
        assert ticket.asked_at - when_s <= 2 * ASK_S
        # Ones that listen have their whole grace to reach the store, too.
        assert ticket.killed_at - ticket.asked_at >= grace_s


def test_a_machine_that_is_taken_away_asks_no_store_first(world):
    """It has seconds of notice."""
    world.post(1)
    worker = PlayedWorker(world, work_s=1e6, paid=True)
    world.store.patience_s = 45.0

    def take_away():
        world.store.away = True
        worker.terminate()

    world.at(20.05, take_away)
    world.run(100.0)
    (ticket,) = worker.machine.tickets
    assert ticket.asked_at - 20.05 < ASK_S / 2
    assert ticket.asked_after_tries == 0


def test_sigterm_in_an_outage_ends_an_idle_worker_at_once(world):
    worker = PlayedWorker(world, order={"idle_s": 1e6})
    world.store.patience_s = 45.0
    world.at(20.0, lambda: setattr(world.store, "away", True))
    world.at(21.0, worker.terminate)
    world.run(300.0)
    assert worker.ended_at - 21.0 <= 2 * ASK_S + FLUSH_S


def test_sigterm_during_set_up_does_not_wait_for_it(world):
    worker = PlayedWorker(world)
    worker.machine.install_s = 600.0
    world.at(20.0, worker.terminate)
    world.run(100.0)
    assert worker.ended_at - 20.0 <= 3.0


def test_a_claim_that_comes_through_after_sigterm_is_handed_on(world, monkeypatch):
    run = world.post(1)
    worker = PlayedWorker(world)
    real = world.store.put_if_absent

    def slow(key, data):
        if "/claims/" in key and "ended" not in key:
            worker.terminate()
        return real(key, data)

    monkeypatch.setattr(world.store, "put_if_absent", slow)
    world.run(60.0)
    assert worker.machine.tickets == []
    assert world.mailbox.ending(f"{run}.train", 1).cause is Cause.PREEMPTION
    assert state(world, run).claimable == 2
