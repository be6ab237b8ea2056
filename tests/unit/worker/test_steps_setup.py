"""The setup of a worker, step by step, with a clock that only the test moves."""

from __future__ import annotations

import pytest

from drillyard.errors import CorruptObject, InfrastructureError, StoreUnavailable, UserError
from drillyard.mailbox.status import Status
from drillyard.worker.preparation import INDEX_AWAY_S
from drillyard.worker.worker import STORE_AWAY_S
from tests.helpers.worker_world import PlayedWorker
from tests.unit.worker.test_steps import state

EXIT_S = 30.0
"""From SIGTERM to the end of the process, at most."""


def states_of(world):
    """Every state that the worker's record has had, in order."""
    seen = []

    def note(now):
        for record in world.mailbox.workers():
            if (record.state, record.message) not in seen:
                seen.append((record.state, record.message))
        return 0.1

    world.add("note", note)
    return seen


def test_a_store_that_is_away_during_the_setup_is_waited_for(world):
    run = world.post(1)
    seen = states_of(world)
    worker = PlayedWorker(world)
    worker.machine.unprepared = [StoreUnavailable("503"), StoreUnavailable("503")]
    world.run(60.0)
    assert state(world, run).status is Status.SUCCEEDED
    assert worker.machine.prepared_times == 3
    assert list(dict.fromkeys(s for s, _ in seen)) == ["starting", "ready", "leaving"]
    assert ("starting", "the set-up is tried again: 503") in seen
    assert ("ready", "") in seen


@pytest.mark.parametrize(
    ("error", "state", "code", "after_s"),
    [
        (UserError("requirement foo==1 cannot be found"), "failed", 2, 0.0),
        (CorruptObject("the code bundle is damaged"), "leaving", 4, 0.0),
        (OSError(28, "No space left on device"), "leaving", 4, 0.0),
        (StoreUnavailable("503"), "leaving", 4, STORE_AWAY_S),
        (InfrastructureError("the package index does not answer"), "leaving", 4, INDEX_AWAY_S),
    ],
)
def test_only_the_users_error_is_a_failed_setup(world, error, state, code, after_s, caplog):
    worker = PlayedWorker(world)
    worker.machine.unprepared = [error] * 1000
    world.run(STORE_AWAY_S + 60.0)
    assert worker.worker.exit_code == code
    (record,) = world.mailbox.workers()
    assert record.state == state
    assert str(error) in record.message and worker.worker.unusable == str(error)
    (line,) = [r for r in caplog.records if "cannot be set up" in r.message]
    assert str(error) in line.message
    assert bool(line.exc_info) == isinstance(error, OSError), "a traceback is for the unexpected"
    assert record.ready_at is None
    assert after_s <= worker.ended_at <= after_s + 60.0


def test_a_worker_that_is_asked_to_end_waits_for_no_store(world):
    worker = PlayedWorker(world)
    worker.machine.unprepared = [StoreUnavailable("503")] * 1000
    world.at(20.0, worker.terminate)
    world.run(60.0)
    assert worker.ended_at <= 20.0 + EXIT_S
