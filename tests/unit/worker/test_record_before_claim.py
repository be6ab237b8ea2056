"""A worker claims nothing before its own record is in the store: a loss could not be found."""

from __future__ import annotations

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from tests.helpers.worker_world import PlayedWorker, World

BACK_S = 30.0


@pytest.fixture
def world(request):
    one = World(request.node.name)
    yield one
    MemoryStore.forget(one.url)


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
