"""How long a run still takes, as its board says."""

from types import SimpleNamespace

import pytest

from drillyard.mailbox.records import Phase
from drillyard.testing.clock import FakeClock
from drillyard.worker.progress import ProgressKeeper


def test_time_left_follows_the_limit_that_comes_first():
    clock = FakeClock()
    ticket = SimpleNamespace(run="t0001-s1", phase=Phase.TRAIN)
    keeper = ProgressKeeper(ticket, SimpleNamespace(attempt=1, worker="w"), clock)
    keeper(step=0, total=1000)
    keeper.board()
    clock.advance(10.0)
    keeper(step=100)
    assert keeper.board().eta_s == pytest.approx(90.0)
    keeper(time_left_s=30.0)
    assert keeper.board().eta_s == pytest.approx(30.0)


def test_steps_of_earlier_attempts_are_not_this_ones_speed():
    """A resumed training sets up for a while, and then tells a step of 50,000."""
    clock = FakeClock()
    ticket = SimpleNamespace(run="t0001-s1", phase=Phase.TRAIN)
    keeper = ProgressKeeper(ticket, SimpleNamespace(attempt=2, worker="w"), clock)
    keeper.board()
    clock.advance(5.0)
    keeper(step=50_000, total=51_000)
    found = keeper.board()
    assert (found.steps_per_s, found.eta_s) == (None, None)
    clock.advance(10.0)
    keeper(step=50_100)
    found = keeper.board()
    assert (found.steps_per_s, found.eta_s) == (pytest.approx(10.0), pytest.approx(90.0))
