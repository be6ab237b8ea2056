"""What a worker records of an attempt: how it ended, how long it takes, whether it hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from drillyard.errors import RunFailed, Stopped, TimedOut
from drillyard.learners import committing
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, Ending, Phase, TicketRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.metrics.streams import StreamWriter
from drillyard.runs.workload import RunContext, StopSignal
from drillyard.system.clock import SYSTEM
from drillyard.testing.clock import FakeClock
from drillyard.worker.endings import of_error
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.stall import StallWatch
from drillyard.workloads.script import ScriptWorkload
from tests.helpers.workload_bench import Bench, script

# -- What is recorded about an attempt that raised --------------------------------------------


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


# -- How long a run still takes, as its board says --------------------------------------------


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


# -- Files that are copied for longer than `budget.stall_s` do not look like a phase that hangs


LIMIT_S = 100.0


def watched(context: RunContext, said: list[str]) -> Callable[[], None]:
    """What takes three times the limit, under the watch of an attempt."""
    ticket = TicketRecord(ticket="r.train", run="r", phase=Phase.TRAIN, posted_at=0.0)
    progress = ProgressKeeper(ticket, context.claim, SYSTEM)
    watch = StallWatch(
        ticket, LIMIT_S, context.stop, progress, SYSTEM, said.append, context.transfers
    )
    now = 0.0

    def takes_long() -> None:
        nonlocal now
        for _ in range(30):
            watch.step(now)
            now += LIMIT_S / 10

    return takes_long


def save(context: RunContext) -> None:
    context.save("x", context.scratch / "x")


def upload(context: RunContext) -> None:
    ScriptWorkload().setup(context)


def checkpoint(context: RunContext) -> None:
    writer = StreamWriter(context.mailbox, context.run.run, 1)
    committing.save(context, writer, 1, 1, {"x": context.scratch / "x"}, {})


@pytest.mark.parametrize("act", [save, upload, checkpoint])
def test_a_transfer_is_not_a_hang(tmp_path, monkeypatch, act):
    tree = script(["true"], upload=[{"from": "x", "to": "memory://share/x"}])
    bench = Bench(tmp_path, tree, {"x": "text"})
    (bench.scratch / "x").write_text("text")
    context, said = bench.context(Phase.TRAIN), list[str]()
    # The alarm of the system would end the tests.
    monkeypatch.setattr(StallWatch, "_alarm", staticmethod(lambda seconds: None))
    takes_long = watched(context, said)
    put = MemoryStore.upload

    def slow(store: MemoryStore, key: str, path: Path) -> None:
        takes_long()
        put(store, key, path)

    monkeypatch.setattr(MemoryStore, "upload", slow)
    act(context)
    assert said == []
    takes_long()  # without a transfer it hangs
    assert said
