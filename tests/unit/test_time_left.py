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
