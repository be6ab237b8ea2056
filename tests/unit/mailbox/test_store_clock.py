"""The store's time, on a machine whose own clock jumps, sleeps, or whose store is away."""

from __future__ import annotations

import threading

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.store_clock import StoreClock
from drillyard.testing.clock import FakeClock

HOUR_S = 3600.0


class Here:
    """This machine's clocks: the time of day is set by hand, the monotonic one sleeps."""

    def __init__(self, true: FakeClock, ahead_s: float = 0.0) -> None:
        self.true = true
        self.ahead_s = ahead_s
        self.slept_s = 0.0
        self._booted_at = true.now()

    def now(self) -> float:
        return self.true.now() + self.ahead_s

    def monotonic(self) -> float:
        return self.true.now() - self._booted_at - self.slept_s

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return self.true.wait(event, timeout_s)


class Store(MemoryStore):
    """It is away at times, and tells its time in whole seconds."""

    away = False

    def now(self) -> float:
        if self.away:
            raise StoreUnavailable("no route to host")
        return float(int(super().now()))


@pytest.fixture
def true():
    return FakeClock()


@pytest.fixture
def store(true):
    return Store("memory://clock", true)


@pytest.mark.parametrize("jump_s", [-HOUR_S, 40.0, HOUR_S])
def test_a_jump_of_this_machines_clock_changes_nothing(jump_s, true, store):
    here = Here(true, ahead_s=-500.0)
    clock = StoreClock(store, here)
    assert clock.now() == true.now()
    here.ahead_s += jump_s
    true.advance(10.0)
    assert clock.now() == true.now()
    store.away = True
    true.advance(10.0)
    assert clock.now() == true.now()


def test_it_follows_the_store_after_a_closed_lid(true, store):
    here = Here(true)
    clock = StoreClock(store, here)
    clock.now()
    true.advance(2 * HOUR_S)
    here.slept_s += 2 * HOUR_S
    assert clock.now() == true.now()


def test_the_own_time_of_day_counts_only_before_the_first_answer(true, store):
    clock = StoreClock(store, Here(true, ahead_s=HOUR_S))
    store.away = True
    assert clock.now() == true.now() + HOUR_S
    store.away = False
    assert clock.now() == true.now()


def test_it_does_not_go_back_with_a_store_of_whole_seconds(true, store):
    clock = StoreClock(store, Here(true))
    true.advance(0.9)
    seen = [clock.now()]
    for _ in range(40):
        true.advance(0.1)
        seen.append(clock.now())
    assert seen == sorted(seen)
    assert seen[-1] - seen[0] == pytest.approx(4.0)
