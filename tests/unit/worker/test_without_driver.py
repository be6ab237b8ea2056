"""`on_driver_loss: stop`: an experiment is stopped when its driver is gone, and only then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import STALE_S, host
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import ExperimentRecord, Phase, TicketRecord
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.testing.clock import FakeClock
from drillyard.worker.without_driver import DRIVER_POLL_S, DriverWatch
from tests.helpers import elsewhere

URL = "memory://without-driver"


class Place:
    """An experiment with a running ticket, a driver elsewhere, and the watch of a worker."""

    def __init__(self) -> None:
        self.wall, self.monotonic = FakeClock(), 1000.0
        self.mailbox = Mailbox(MemoryStore(URL, self.wall), "x")
        spec = {"on_driver_loss": "stop"}
        record = ExperimentRecord(name="x", spec=spec, identity="x", created_at=0.0)
        self.mailbox.write("experiment.json", record)
        ticket = TicketRecord(ticket="r.train", run="r", phase=Phase.TRAIN, posted_at=0.0)
        self.mailbox.post(ticket)
        self.watch = DriverWatch(self.mailbox, "w", self.wall, None)

    def beat(self, **more: object) -> None:
        elsewhere.beat(self.mailbox, written_at=self.wall.now(), **more)

    def live(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        """Let time pass, with a look as often as the watch takes one."""
        end = self.monotonic + seconds
        while self.monotonic < end:
            self.monotonic += DRIVER_POLL_S
            self.wall.advance(DRIVER_POLL_S)
            each()
            self.watch.look(self.monotonic, ticket_states(self.mailbox))

    @property
    def stopped(self) -> bool:
        return self.mailbox.cancelled() is not None


@pytest.fixture
def place():
    MemoryStore.forget(URL)
    yield Place()
    MemoryStore.forget(URL)


def test_a_driver_elsewhere_that_stays_silent_is_gone(place):
    place.beat()
    place.live(STALE_S - DRIVER_POLL_S)
    assert not place.stopped
    place.live(2 * STALE_S + 2 * DRIVER_POLL_S)
    assert place.stopped


def test_a_clock_that_jumps_does_not_make_a_living_driver_gone(place):
    """Or a laptop that slept: the stamp is old at the first look, and changes soon."""
    place.beat()
    place.live(10.0)
    for _ in range(3):
        place.wall.advance(3600.0)
        place.live(STALE_S - 2 * DRIVER_POLL_S)
        assert not place.stopped
        place.beat()
        place.live(10.0, place.beat)
    assert not place.stopped


def test_a_worker_that_was_suspended_hears_the_driver_first(place):
    """Its monotonic time went on, and the driver was suspended with it."""
    place.beat()
    place.live(STALE_S + 5 * DRIVER_POLL_S)
    place.monotonic += 600.0
    place.wall.advance(600.0)
    place.live(4 * DRIVER_POLL_S)
    assert not place.stopped


@pytest.mark.parametrize(
    "more",
    [
        {"ended_at": 1.0},
        {
            "host": host(),
            "pid": 4_100_000,
            "boot_id": boot_id(),
            "pid_namespace": pid_namespace(),
        },
    ],
)
def test_a_driver_that_is_known_to_have_ended_is_gone_at_once(place, more):
    place.beat(**more)
    place.live(DRIVER_POLL_S)
    assert place.stopped
