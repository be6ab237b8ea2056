"""What is recorded about an attempt that raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import RunFailed, Stopped, TimedOut
from drillyard.mailbox.records import Claim, Ending
from drillyard.mailbox.status import Cause, Status
from drillyard.runs.workload import StopSignal
from drillyard.system.clock import SYSTEM
from drillyard.worker.endings import of_error

CLAIM = Claim(ticket="t0001-s1.train", attempt=1, worker="w", token="t", claimed_at=0.0)
AWAY = "SIGTERM: taken away"


def ended(error: Exception, tmp: Path, cause: Cause | None = None) -> Ending:
    stop = StopSignal()
    if cause is not None:
        stop.set(cause, AWAY)
    return of_error(CLAIM, SYSTEM, error, stop, tmp)


def test_an_error_on_a_machine_that_is_taken_away_is_not_the_users(tmp_path):
    """SIGTERM reaches programs of the user as well: they fail, or leave half of a result."""
    ending = ended(RunFailed("the results file r.csv is empty"), tmp_path, Cause.PREEMPTION)
    assert (ending.status, ending.cause) == (Status.PREEMPTED, Cause.PREEMPTION)
    assert AWAY in ending.message and "r.csv is empty" in ending.message


@pytest.mark.parametrize("cause", [None, Cause.CANCELLED, Cause.PRUNED, Cause.TIME_LIMIT])
def test_an_error_beside_another_stop_stays_the_users(tmp_path, cause):
    """No program receives a signal at the request itself."""
    assert ended(RunFailed("no result"), tmp_path, cause).cause is Cause.USER_ERROR


def test_a_limit_stays_a_limit_and_a_stop_has_its_cause(tmp_path):
    assert ended(TimedOut("late"), tmp_path, Cause.PREEMPTION).cause is Cause.TIME_LIMIT
    assert ended(Stopped("enough"), tmp_path, Cause.CANCELLED).cause is Cause.CANCELLED
