"""Tickets that a worker is handed, step by step, with a clock that only the test moves."""

from __future__ import annotations

import pytest

from drillyard.mailbox.records import Claim, Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.worker import endings
from drillyard.worker.push_worker import PushWorker
from tests.helpers.worker_world import PlayedPusher, PlayedWorker
from tests.unit.worker.test_steps import state

PHASES = (Phase.TRAIN, Phase.EVALUATE, Phase.STORE)


def test_a_handed_ticket_is_done_with_what_follows_and_said_to_be_over(world):
    handed, other = [world.post(seed, PHASES) for seed in (1, 2)]
    pusher = PlayedPusher()
    worker = PlayedWorker(world, make=PushWorker, pusher=pusher, order={"idle_s": 60.0})
    world.at(10.0, lambda: pusher.hand(f"{handed}.train"))
    world.run(60.0)
    assert [state(world, handed, phase).status for phase in PHASES] == [Status.SUCCEEDED] * 3
    assert pusher.heard == [(f"{handed}.train", "SUCCEEDED")]
    assert state(world, other).status is Status.READY, "what nobody handed is left to others"
    world.at(61.0, pusher.gone)
    world.run(80.0)
    assert worker.worker.exit_code == 0


def test_whoever_pushes_dies_and_the_ticket_is_handed_on(world):
    run = world.post(1)
    pusher = PlayedPusher()
    worker = PlayedWorker(world, make=PushWorker, pusher=pusher, work_s=1e6)
    world.at(1.0, lambda: pusher.hand(f"{run}.train"))
    world.at(20.0, pusher.gone)
    world.run(60.0)
    assert world.mailbox.ending(f"{run}.train", 1).cause is Cause.PREEMPTION
    assert worker.ended_at - 20.0 <= 3.0


@pytest.mark.parametrize("phase", PHASES[:2])
def test_a_handed_ticket_is_waited_for_until_the_attempt_of_a_lost_machine_is_closed(world, phase):
    """A driver needs some thirty seconds for that; another machine takes minutes to start."""
    run = world.post(1, PHASES)
    lost, *_ = claims = [
        Claim(ticket=f"{run}.{each}", attempt=1, worker="lost", token="t", claimed_at=0.0)
        for each in reversed(PHASES[: PHASES.index(phase) + 1])
    ]
    for each in claims:
        world.mailbox.claim(each)
        if each is not lost:
            world.mailbox.end(endings.succeeded(each, world.clock))
    pusher = PlayedPusher()
    PlayedWorker(world, make=PushWorker, pusher=pusher, order={"idle_s": 60.0})
    world.at(1.0, lambda: pusher.hand(f"{run}.train"))
    ending = endings.failed(lost, world.clock, Cause.INFRASTRUCTURE, "its machine is gone")
    world.at(38.0, lambda: world.mailbox.end(ending))
    world.run(100.0)
    done = state(world, run, phase)
    assert (done.status, done.attempt) == (Status.SUCCEEDED, 2)
