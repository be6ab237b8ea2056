"""A study whose trials a limit ended: the error says so, and the same command continues them."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import RunFailed, TimedOut
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.status import Cause, Status
from drillyard.studies.search import Search
from tests.unit.studies.test_superseded_study import begun, fail_one, study_file

URL = "memory://limited"


@pytest.fixture
def mailbox():
    yield Mailbox(MemoryStore(URL), "s")
    MemoryStore.forget(URL)


def ended_by(mailbox: Mailbox, folder: Path, causes: list[Cause]) -> Search:
    search = begun(mailbox, study_file(folder, trials=len(causes)), lambda: None)
    for cause in causes:
        fail_one(mailbox, cause)
        for _ in range(3):
            search.step(0.0)
    assert search.over
    search.close()
    return search


def test_trials_that_a_limit_ended_are_not_called_failures(mailbox, tmp_path):
    """Simulation: "1 of 3 trials have failed: budget.max_hours = 0.05 ended the lease"."""
    search = ended_by(mailbox, tmp_path, [Cause.TIME_LIMIT, Cause.TIME_LIMIT])
    error = search.verdict()
    assert isinstance(error, TimedOut)
    assert "a limit ended 2 of 2 trials" in error.message
    assert error.hint is not None and "raise it and run the same command" in error.hint
    assert search.settled() == set(), "the same command forgives their endings"


def test_a_trial_that_failed_by_itself_stays_one(mailbox, tmp_path):
    search = ended_by(mailbox, tmp_path, [Cause.TIME_LIMIT, Cause.USER_ERROR])
    assert isinstance(search.verdict(), RunFailed)
    failed = [n for n, o in search.outcomes.items() if o.status is Status.FAILED]
    assert len(failed) == 1 and search.settled() == set(failed)
