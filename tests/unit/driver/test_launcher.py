"""A ticket that its provider loses before a worker begins is pushed again, with pauses."""

from __future__ import annotations

import itertools
from contextlib import nullcontext, suppress
from dataclasses import replace

import pytest

from drillyard.backend import Lease, Liveness, Order
from drillyard.documents.json_types import JsonObject
from drillyard.driver import launcher
from drillyard.driver.launcher import Launcher
from drillyard.errors import ControlPlaneError, WorkerLost
from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import TicketRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.testing.clock import FakeClock
from tests.helpers.records import ticket_of
from tests.helpers.tiny_backend import ThreadBackend


class Losing(ThreadBackend):
    """Takes tickets by ``launch``, and says how a ticket is doing."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.answer = Liveness.GONE
        self.pushed_at: list[float] = []
        self.refuses = self.full = False
        self.asked = 0

    def launch(self, lease: Lease, ticket_id: str) -> JsonObject | None:
        if self.refuses:
            raise ControlPlaneError("not now")
        self.asked += 1
        if self.full:
            return None
        self.pushed_at.append(self._clock.now())
        return {}

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        return self.answer


class Explaining(Losing):
    """Says also why a ticket was lost; None: it does not answer."""

    cause: Cause | None = Cause.PREEMPTION

    def lost_to(self, lease: Lease, ticket_id: str) -> Cause:
        if self.cause is None:
            raise ControlPlaneError("not now")
        return self.cause


class Yard:
    """A launcher with one ticket that no worker claims."""

    def __init__(self, kind: type[Losing] = Losing) -> None:
        self.clock = FakeClock(0.0)
        self.backend = kind(self.clock)
        order = Order(lease_id="dy-0123456789", experiment="s", store_url="memory://launcher")
        self.lease = Lease(lease_id=order.lease_id, backend="thread", order=order, created_at=0.0)
        mailbox = Mailbox(MemoryStore("memory://launcher"), "s")
        self.launcher = Launcher(mailbox, self.backend, lambda lease: nullcontext(), self.clock)
        self.states = [TicketState(self.ticket(1), Status.READY, claimable=1)]

    @staticmethod
    def ticket(seed: int) -> TicketRecord:
        run = f"t0001-s{seed}"
        return ticket_of(run, order=seed)

    def tend(self, until_s: float) -> None:
        while self.clock.now() < until_s:
            with suppress(ControlPlaneError):
                self.launcher.launch(self.lease, self.states)
            self.clock.advance(1.0)


def test_pauses_grow_so_that_minutes_of_trouble_do_not_use_up_all_pushes():
    yard = Yard()
    with pytest.raises(WorkerLost, match=r"6 times, and no worker ever started it"):
        yard.tend(3600.0)
    times = yard.backend.pushed_at
    pauses = [round(b - a) for a, b in itertools.pairwise(times)]
    assert len(pauses) == 5
    for pause, least in zip(pauses, (10, 20, 40, 80, 160), strict=True):
        assert least <= pause <= least + 2 * launcher.LOOK_S
    assert yard.clock.now() > 300.0


def test_a_ticket_that_the_provider_has_after_all_is_not_pushed_again():
    yard = Yard()
    yard.tend(8.0)  # seen as lost
    yard.backend.answer = Liveness.ALIVE
    yard.tend(100.0)
    assert len(yard.backend.pushed_at) == 1
    yard.backend.answer = Liveness.UNKNOWN
    yard.tend(200.0)
    assert len(yard.backend.pushed_at) == 1
    yard.backend.answer = Liveness.GONE  # the pause begins again
    yard.tend(207.0)
    assert len(yard.backend.pushed_at) == 1
    yard.tend(225.0)
    assert len(yard.backend.pushed_at) == 2


def test_a_push_that_the_provider_refuses_does_not_use_up_the_pushes():
    """The jobs of a cluster that is being deleted have ended, and it takes no others."""
    yard = Yard()
    yard.tend(8.0)
    yard.backend.refuses = True
    yard.tend(1800.0)
    yard.backend.refuses = False
    yard.tend(1810.0)
    assert len(yard.backend.pushed_at) == 2


def test_tickets_that_a_full_lease_does_not_take_are_offered_again_and_not_counted_as_lost():
    yard = Yard()
    yard.states = [replace(yard.states[0], ticket=t) for t in (yard.ticket(n) for n in (1, 2))]
    yard.backend.full, yard.backend.answer = True, Liveness.ALIVE
    yard.tend(1800.0)
    assert yard.backend.pushed_at == [] and yard.backend.asked == 1800, "one question a look"
    yard.backend.full = False
    yard.tend(1801.0)
    assert len(yard.backend.pushed_at) == 2


def test_a_lost_ticket_that_a_full_lease_does_not_take_is_not_counted_as_pushed():
    yard = Yard()
    yard.tend(8.0)
    yard.backend.full = True
    yard.tend(1800.0)
    yard.backend.full = False
    yard.tend(1810.0)
    assert len(yard.backend.pushed_at) == 2


def test_a_machine_that_is_taken_away_before_a_worker_begins_counts_as_a_preemption():
    """A low-priority node can go while it prepares its job: that has a budget of its own."""
    yard = Yard(Explaining)
    with pytest.raises(WorkerLost, match="21 times"):
        yard.tend(3600.0)
    pauses = [round(b - a) for a, b in itertools.pairwise(yard.backend.pushed_at)]
    assert len(pauses) == 20
    assert max(pauses) <= launcher.LOOK_S + 1, "it waits for nothing that could pass"


@pytest.mark.parametrize("cause", [Cause.INFRASTRUCTURE, None], ids=["crash", "no answer"])
def test_preemptions_and_crashes_are_counted_apart(cause):
    yard = Yard(Explaining)
    assert isinstance(yard.backend, Explaining)
    yard.tend(60.0)
    preempted = len(yard.backend.pushed_at) - 1
    assert preempted > 5
    yard.backend.cause = cause
    with pytest.raises(WorkerLost, match=f"{preempted + 6} times"):
        yard.tend(3600.0)
