"""Samples of a machine's use on their way: board, worker's record, streams, and who shows them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.backend import Order
from drillyard.cli import status
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Board, Claim, Phase, TicketRecord
from drillyard.metrics.event_files import encode
from drillyard.metrics.streams import StreamWriter, read_stream
from drillyard.report import build, utilisation
from drillyard.runs.workload import StopSignal
from drillyard.system.clock import SYSTEM
from drillyard.system.utilisation import EVERY_S, Monitor, UsageSample
from drillyard.testing.clock import FakeClock
from drillyard.tracking import behind
from drillyard.tracking.points import points_of
from drillyard.worker import machine_share
from drillyard.worker.heartbeat import Heartbeat
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.sidecar import TicketSidecar
from drillyard_tasks.publisher import line
from tests.helpers.fixtures_store import T0, write_experiment
from tests.helpers.workload_bench import Bench

URL, RUN = "memory://usage", "t0001-s1"
USE = {"system/cpu_utilization_percentage": 80.0, "system/system_memory_usage_percentage": 95.0}


class Counting(MemoryStore):
    """Counts what is written."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.written: Counter[str] = Counter()

    def put(self, key: str, data: bytes) -> None:
        self.written[key] += 1
        super().put(key, data)


@pytest.fixture
def mailbox():
    yield Mailbox(Counting(URL), "x")
    MemoryStore.forget(URL)


def monitor() -> Monitor:
    return Monitor(lambda: dict(USE), lambda: 50.0)


def sampled(step: int) -> UsageSample:
    return {"time": T0 + step, "step": step, "metrics": dict(USE)}


def test_a_ticket_tells_its_use_on_the_board_it_writes_anyway(mailbox):
    claim = Claim(ticket=f"{RUN}.train", attempt=1, worker="w", token="t", claimed_at=0.0)
    mailbox.claim(claim)
    ticket = TicketRecord(ticket=claim.ticket, run=RUN, phase=Phase.TRAIN, posted_at=0.0)
    progress = ProgressKeeper(ticket, claim, SYSTEM)
    progress(step=40)
    shipper: Any = SimpleNamespace(ship=lambda: None)
    used = monitor()
    sidecar = TicketSidecar(mailbox, claim, StopSignal(), progress, shipper, None, SYSTEM, used)
    sidecar.step(1.0)
    assert mailbox.board(RUN).usage == {}  # type: ignore[union-attr]
    mailbox.store.written.clear()  # type: ignore[attr-defined]
    sidecar.step(1.0 + EVERY_S)
    assert mailbox.board(RUN).usage == USE  # type: ignore[union-attr]
    assert mailbox.store.written == {f"x/board/{RUN}.json": 1}  # type: ignore[attr-defined]
    assert [s["step"] for s in used.take()] == [40]


def test_a_worker_tells_its_use_and_what_is_wrong_in_its_heartbeat(mailbox):
    order = Order(lease_id="dy-0123456789", experiment="x", store_url=URL)
    heart = Heartbeat(mailbox, order, "w", 1, SYSTEM, monitor())
    heart.step(1.0)
    heart.step(1.0 + EVERY_S)
    (worker,) = mailbox.workers()
    assert worker.usage == USE and "nearly exhausted" in worker.warnings[0]
    assert set(mailbox.store.written) == {"x/workers/w.json"}  # type: ignore[attr-defined]


def test_status_shows_both_for_workers_that_are_alive(mailbox, monkeypatch):
    monkeypatch.setattr(behind, "targets", lambda mailbox: [])
    order = Order(lease_id="dy-0123456789", experiment="x", store_url=URL)
    heart = Heartbeat(mailbox, order, "w", 1, SYSTEM, monitor())
    heart.tell("ready")
    heart.step(1.0)
    heart.step(1.0 + EVERY_S)
    around = status.surroundings(mailbox)
    shown = status.usage_lines(around)
    assert "CPU 80 %" in shown[0] and shown[1].startswith("warning: worker w on ")
    assert "memory is nearly exhausted: 95 %" in shown[1]
    ((worker, age),) = around.workers
    silent = (worker.model_copy(update={"warnings": []}), age)
    many = dataclasses.replace(around, workers=(silent,) * 200)
    assert len(status.usage_lines(many)) == status.MOST_WORKERS + 1
    assert status.usage_lines(dataclasses.replace(around, workers=((worker, 60.0),))) == []


def test_samples_go_with_a_line_that_is_written_anyway(mailbox):
    store: Any = mailbox.store
    mailbox.write(f"{mailbox.attempt_path(RUN, Phase.TRAIN, 1)}/start.json", _start())
    counts = []
    for new in ([], [sampled(10), sampled(20)]):
        store.written.clear()
        writer = StreamWriter(mailbox, RUN, 1, usage=lambda new=new: [new.pop()] if new else [])
        writer.append("train", 100, {"a": 1.0})
        writer.append("timing", 100, {"time/steps_per_s": 5.0})
        offsets = writer.flush()
        counts.append((store.written.copy(), offsets))
    assert counts[0] == counts[1]  # neither a request nor a line more
    (found,) = read_stream(mailbox, RUN, "timing")
    points = list(points_of(found))
    assert [(p.key, p.step) for p in points] == [
        *((name, 20) for name in USE),
        ("time/steps_per_s", 100),
    ]
    assert points[0].timestamp_ms == round((T0 + 20) * 1000)


def _start() -> Any:
    from drillyard.mailbox.records import AttemptStart

    return AttemptStart(attempt=1, started_at=0.0)


def test_tensorboard_gets_them(mailbox):
    data = encode(
        [
            {
                "step": 9,
                "time": T0,
                "seq": 0,
                "metrics": {},
                "usage": [sampled(3)],
            }
        ]
    )
    assert b"system/cpu_utilization_percentage" in data


@pytest.mark.heavy
@pytest.mark.parametrize("workload", ["rl", "mock"])
def test_workloads_write_them(tmp_path, workload):
    tree: dict[str, Any] = {"workload": "mock", "mock": {"duration_s": 0.01}}
    if workload == "rl":
        tree = {
            "simulator": {"id": "simple-adder"},
            "learner": {"algorithm": "ppo", "args": {"n_steps": 32, "batch_size": 32}},
            "train": {"steps": 64},
            "tracking": {"tensorboard": False},
        }
    bench = Bench(tmp_path, tree)
    context = bench.context(Phase.TRAIN)
    waiting = [sampled(5)]
    context.usage = lambda: [waiting.pop()] if waiting else []
    bench.workload.train(context)
    lines = read_stream(bench.mailbox, RUN, "timing", attempt=1)
    assert [s["step"] for line in lines for s in line.get("usage", ())] == [5]


def test_prefects_page_shows_the_use():
    board = Board(run=RUN, phase=Phase.TRAIN, attempt=1, worker="w", written_at=0.0, usage=USE)
    assert line(board).endswith("CPU 80 %, memory 0.0 GB (95 %)")


@pytest.mark.heavy
def test_the_report_shows_the_use_and_what_is_wrong(tmp_path):
    box = write_experiment(tmp_path, seeds=(1,))
    gpu = {"system/gpu_0_utilization_percentage": 7.0, "system/gpu_0_memory_usage_percentage": 3.0}
    samples = [{**sampled(n), "metrics": USE | gpu} for n in range(0, 900, 10)]
    writer = StreamWriter(box, RUN, 1, clock=FakeClock(T0))
    writer.append("timing", 900, {}, usage=samples)
    writer.flush()
    files = build(box, clock=FakeClock(T0 + 500))
    page = box.store.get(box.key("report/index.html")).decode()
    assert "Use of the machines" in page and "its GPU was in use 7 % of the time" in page
    assert "95 % of the memory of its machine were in use" in page
    csv = box.store.get(box.key("report/utilisation.csv")).decode().splitlines()
    assert csv[0] == "run,step,time,metric,value" and len(csv) == 1 + 90 * 4
    assert "report/utilisation.svg" in files.keys
    short = [utilisation.RunUsage(RUN, tuple(samples[:5]))]
    assert all("GPU" not in text for text in utilisation.notes(short))


def test_gpus_of_a_run_by_their_numbers():
    assert machine_share.numbers(("0", "3")) == (0, 3)
    assert machine_share.numbers(()) == ()
    assert machine_share.numbers(("GPU-8f2", "1")) is None


def test_records_of_an_earlier_version_have_no_use():
    board = Board(run=RUN, phase=Phase.TRAIN, attempt=1, worker="w", written_at=0.0)
    old = json.loads(board.to_bytes())
    del old["usage"]
    assert Board.from_bytes(json.dumps(old).encode()).usage == {}
