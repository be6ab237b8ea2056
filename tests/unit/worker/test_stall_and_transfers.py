"""Files that are copied for longer than `budget.stall_s` do not look like a phase that hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drillyard.learners import committing
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Phase, TicketRecord
from drillyard.metrics.streams import StreamWriter
from drillyard.runs.workload import RunContext
from drillyard.system.clock import SYSTEM
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.stall import StallWatch
from drillyard.workloads.script import ScriptWorkload
from tests.helpers.workload_bench import Bench, script

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
