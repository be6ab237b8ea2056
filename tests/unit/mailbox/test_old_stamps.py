"""An old heartbeat shows a death only if it stays the same: clocks jump, and machines sleep."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from drillyard.backend import Lease, Liveness, Order
from drillyard.errors import AlreadyDriven
from drillyard.leases.ledger import Intent, Ledger
from drillyard.leases.lost_attempts import SILENT_S, LostAttemptCloser
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import STALE_S, WATCHED_S, DriverLock, host
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, Phase, TicketRecord
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.testing.clock import FakeClock
from tests.helpers import elsewhere
from tests.helpers.records import tell_worker
from tests.helpers.tiny_backend import ThreadBackend

URL = "memory://old-stamps"
HOUR_S = 3600.0
BEAT_S = 3.0
LEASE, TICKET = "dy-0123456789", "t0001-s1.train"


class Place(FakeClock):
    """A store, and this machine's clocks; whoever lives elsewhere acts while this one waits."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = FakeClock()
        self.store = MemoryStore(URL, self.wall)
        self.mailbox = Mailbox(self.store, "x")
        self.elsewhere: Callable[[], None] = lambda: None
        self.said: list[str] = []
        self._acted = self.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Pass the time of both clocks; what lives elsewhere acts every three seconds."""
        self.advance(timeout_s)
        self.wall.advance(timeout_s)
        if self.monotonic() - self._acted >= BEAT_S:
            self._acted = self.monotonic()
            self.elsewhere()
        return event.is_set()

    def driver(self, **more: object) -> None:
        """The heartbeat of a driver on another machine."""
        elsewhere.beat(self.mailbox, **more)

    def worker(self) -> None:
        """The heartbeat of a worker on another machine."""
        there = {"host": "elsewhere", "pid": 7, "pid_started": 1}
        tell_worker(self.mailbox, f"{LEASE}-w", LEASE, **there)

    def lock(self) -> DriverLock:
        """The lock of a second command."""
        return DriverLock(self.mailbox, self, say=self.said.append)


class Unlisted(ThreadBackend):
    """Its provider lists no machine, whether or not there is one."""

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        return Liveness.GONE


@pytest.fixture
def place():
    MemoryStore.forget(URL)
    yield Place()
    MemoryStore.forget(URL)


def test_a_clock_that_jumps_does_not_hand_over_a_living_driver(place):
    """Or a laptop that slept with both commands: the heartbeat is old at the first look."""
    place.driver()
    place.elsewhere = place.driver
    place.wall.advance(HOUR_S)
    with pytest.raises(AlreadyDriven, match="process 7 on elsewhere"):
        place.lock().take(["second"])
    assert [driver.number for driver in place.mailbox.drivers()] == [1]
    assert len(place.said) == 1


def test_a_store_whose_clock_is_ahead_of_its_stamps_hides_no_living_driver(place):
    place.driver()

    def beat() -> None:
        place.driver()
        place.wall.advance(HOUR_S)

    place.elsewhere = beat
    place.wall.advance(HOUR_S)
    with pytest.raises(AlreadyDriven):
        place.lock().take(["second"])


def test_a_driver_that_stays_silent_is_taken_over_after_one_short_wait(place):
    place.driver()
    place.wall.advance(HOUR_S)
    lock, began = place.lock(), place.monotonic()
    assert lock.check_free() == 1
    waited = place.monotonic() - began
    assert WATCHED_S <= waited <= WATCHED_S + BEAT_S
    assert lock.take(["second"]).number == 2  # as `run` does: it looks, plans, and takes
    assert place.monotonic() - began == waited
    (said,) = place.said
    assert "process 7 on elsewhere" in said and "is 1 h 00 min old: waiting 15 s" in said


def test_a_driver_that_ends_while_it_is_watched_is_taken_over_at_once(place):
    place.driver()
    place.elsewhere = lambda: place.driver(ended_at=1.0)
    place.wall.advance(HOUR_S)
    began = place.monotonic()
    assert place.lock().take(["second"]).number == 2
    assert place.monotonic() - began <= BEAT_S


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
    ids=["ended", "its process is gone"],
)
def test_a_driver_that_is_known_to_be_dead_is_not_watched(place, more):
    place.driver(**more)
    place.wall.advance(HOUR_S)
    began = place.monotonic()
    assert place.lock().take(["second"]).number == 2
    assert (place.monotonic(), place.said) == (began, [])


@pytest.fixture
def closer(place):
    """Of a ticket at work; its provider does not list the machine, though it may exist."""
    place.worker()
    order = Order(lease_id=LEASE, experiment="x", store_url=URL)
    intent = Intent(order=order, backend="thread", ordinal=1, written_at=0.0)
    place.mailbox.write(f"leases/{LEASE}/intent.json", intent)
    place.mailbox.post(
        TicketRecord(ticket=TICKET, run="t0001-s1", phase=Phase.TRAIN, order=0, posted_at=0.0)
    )
    claim = Claim(ticket=TICKET, attempt=1, worker=f"{LEASE}-w", token="t", claimed_at=0.0)
    place.mailbox.claim(claim)
    ledger = Ledger(place.mailbox, place)
    return LostAttemptCloser(place.mailbox, Unlisted(), ledger, "me", place)


def look(place: Place, closer: LostAttemptCloser, seconds: float) -> bool:
    """Look every 1.5 s for a while; returns whether the attempt was closed."""
    end = place.monotonic() + seconds
    while True:
        closer.close_lost(ticket_states(place.mailbox))
        if place.monotonic() >= end:
            return place.mailbox.ending(TICKET, 1) is not None
        place.wait(threading.Event(), 1.5)


def test_a_clock_that_jumps_closes_no_attempt_of_a_living_worker(place, closer):
    place.elsewhere = place.worker
    for _ in range(3):
        assert not look(place, closer, 2 * SILENT_S)
        place.wall.advance(HOUR_S)
    assert not look(place, closer, 2 * SILENT_S)


def test_a_driver_that_could_not_look_hears_the_worker_first(place, closer):
    """Both were suspended, and the monotonic clock went on."""
    assert not look(place, closer, 1.5)
    place.advance(HOUR_S)
    place.wall.advance(HOUR_S)
    assert not look(place, closer, 0.0)


def test_an_attempt_of_a_worker_that_stays_silent_is_closed(place, closer):
    place.wall.advance(HOUR_S)
    assert not look(place, closer, SILENT_S - 1.5)
    assert closer.doubts == 1
    assert look(place, closer, 3.0)
    assert closer.doubts == 0


def test_a_store_whose_clock_is_ahead_of_its_stamps_leaves_no_lasting_doubt(place, closer):
    """A command with other settings waits for the doubts to end, and would wait for ever."""

    def beat() -> None:
        place.worker()
        place.wall.advance(HOUR_S)

    place.elsewhere = beat
    place.wall.advance(HOUR_S)
    doubts = []
    for _ in range(10):
        assert not look(place, closer, 1.5)
        doubts.append(closer.doubts)
    assert 0 in doubts


def test_a_driver_that_looked_all_the_time_waits_no_longer_than_before(place, closer):
    assert look(place, closer, SILENT_S + 1.5)
    assert SILENT_S < STALE_S
