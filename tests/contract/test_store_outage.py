"""A store that is away decides nothing: `drillyard.run` cancels no run and ends no machine.

As with the command line, the error says that the same call goes on; meanwhile machines work, and
the next call adopts them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.backend import Liveness, open_backend
from drillyard.errors import InfrastructureError
from drillyard.leases.ledger import Entry, Ledger
from drillyard.mailbox import Mailbox, open_store
from tests.helpers import rules
from tests.helpers.open_drivers import closing
from tests.helpers.outage_store import impatient
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process

WORKLOAD = '''
"""Writes a point and a word of progress again and again, until the file `gate` is there."""
import time
from pathlib import Path
from drillyard.mailbox.records import AttemptStart
from drillyard.metrics.streams import StreamWriter
from drillyard.runs.workload import PhaseOutcome

class Gated:
    kind = "gated"
    def check(self, spec, folder): return []
    def preload(self, spec): return []
    def freeze(self, spec, seed): return {}

    def train(self, context):
        context.mailbox.write(f"{context.folder}/start.json", AttemptStart(
            attempt=context.attempt, started_at=0.0))
        writer = StreamWriter(context.mailbox, context.run.run, context.attempt)
        gate, step = Path(context.run.parameters["gate"]), 0
        while not gate.exists() or step < 20:
            context.stop.check()
            step += 1
            context.progress(step=step, total=10**6)
            writer.append("train", step, {"rollout/ep_rew_mean": step})
            writer.flush()
            time.sleep(0.05)
        return PhaseOutcome(summary={"steps": step})

    def evaluate(self, context):
        return PhaseOutcome(summary={})
'''
FILE = """
name: gated
workload: "gated_work:Gated"
parameters: {{const_args: {{gate: {gate}}}}}
seeds: [1, 2]
resources: {{workers: 2}}
tracking: {{mlflow: null}}
"""
ROOT = Path(__file__).parents[2]


class Bench:
    """An experiment whose runs end when the gate is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = folder / "gate"
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "gated_work.py").write_text(WORKLOAD)
        (self.project / "gated.yaml").write_text(FILE.format(gate=self.gate))
        self.url = f"outage://{folder / 'store'}"
        self.mailbox = Mailbox(open_store(str(folder / "store")), "gated")

    def run(self, **more: Any) -> Any:
        return drillyard.run("gated.yaml", store=self.url, flow=False, report=False, **more)

    def program(self, way: str) -> subprocess.CompletedProcess[str]:
        """The same in a process of its own, from Python or by the command line."""
        return run_process(
            [sys.executable, "-m", "tests.helpers.outage_store", way, "gated.yaml", self.url],
            cwd=self.project,
            more={"PYTHONPATH": rules.path(ROOT)},
        )

    def leases(self) -> list[Entry]:
        return Ledger(self.mailbox).entries()

    def steps(self) -> list[int]:
        """How far the runs are, by the words of their workers."""
        boards = [self.mailbox.board(f"t0001-s{seed}") for seed in (1, 2)]
        return [board.step if board is not None else 0 for board in boards]

    def cancelled(self) -> bool:
        return self.mailbox.cancelled() is not None

    def down_at_work(self) -> None:
        """The store goes down once both runs are at work."""
        self.when(lambda: all(self.steps()), (self.folder / "down").touch)

    def back(self) -> None:
        for name in ("down", "down-after-renting", "back-to-cancel"):
            (self.folder / name).unlink(missing_ok=True)

    def when(self, condition: Callable[[], object], then: Callable[[], object]) -> None:
        """Do something from another thread once a condition is true."""

        def body() -> None:
            until(condition)
            then()

        threading.Thread(target=body, daemon=True).start()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Little patience with a store; none of the experiment's machines after the test."""
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody answers there
    monkeypatch.setattr("drillyard.driver.driver.Watcher", impatient)
    made = Bench(tmp_path)
    monkeypatch.chdir(made.project)
    monkeypatch.syspath_prepend(made.project)
    with closing(monkeypatch):
        yield made
        made.back()
    backend = open_backend("local", {})
    for entry in made.leases():
        backend.teardown(entry.lease)
    sys.modules.pop("gated_work", None)


def goes_on_and_is_adopted(bench: Bench) -> None:
    """After an outage: nothing is cancelled or torn down, and the next call finishes the runs."""
    assert not bench.cancelled(), "the runs were cancelled"
    (entry,) = bench.leases()
    assert entry.open, "the machines were torn down"
    assert open_backend("local", {}).probe(entry.lease) is Liveness.ALIVE
    until(lambda: all(bench.steps()), what="both runs at work")
    before = bench.steps()
    until(
        lambda: all(now > then for now, then in zip(bench.steps(), before, strict=True)),
        what="machines that go on working",
    )
    store = bench.mailbox.store
    key = bench.mailbox.key(f"leases/{entry.intent.order.lease_id}/rented.json")
    rented = store.stat(key)
    bench.when(lambda: store.stat(key) != rented, bench.gate.touch)  # written anew: adopted
    assert bench.run().status == "SUCCEEDED"
    assert [e.intent.order.lease_id for e in bench.leases()] == [entry.intent.order.lease_id]
    assert {attempt for _, attempt, _ in bench.mailbox.claims()} == {1}, "work was done twice"
    assert not bench.leases()[0].open, "a finished experiment keeps no machine"


@pytest.mark.parametrize("way", [pytest.param("python"), "command"])
@pytest.mark.parametrize("moment", ["while machines start", "while runs work"])
def test_an_outage_that_ends_when_the_driver_gives_up_cancels_nothing(bench, way, moment):
    """The worst moment: who would cancel now, can."""
    (bench.folder / "back-to-cancel").touch()
    if moment == "while machines start":
        (bench.folder / "down-after-renting").touch()
    else:
        bench.down_at_work()
    done = bench.program(way)
    assert done.returncode == 4 and "no route to host" in done.stderr, done.stdout + done.stderr
    bench.back()
    goes_on_and_is_adopted(bench)


def test_an_outage_that_outlasts_the_call_leaves_the_experiment_free_for_the_next(bench):
    """The driver can write nothing, not even that it has ended; its own process knows that."""
    bench.down_at_work()
    with pytest.raises(InfrastructureError, match="no route to host"):
        bench.run()
    bench.back()
    goes_on_and_is_adopted(bench)


@pytest.mark.parametrize("how", ["down", "hangs"])
def test_sigterm_in_an_outage_ends_the_command(bench, how):
    """It neither waits for runs that were never asked to stop, nor for a call that hangs."""
    command = [sys.executable, "-m", "tests.helpers.outage_store", "signalled", "gated.yaml"]
    with subprocess.Popen(
        [*command, bench.url],
        cwd=bench.project,
        env={**os.environ, "PYTHONPATH": rules.path(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            until(lambda: child.poll() is not None or all(bench.steps()))
            (bench.folder / how).touch()
            child.send_signal(signal.SIGTERM)
            _, said = child.communicate(timeout=PATIENCE_S)
        finally:
            (bench.folder / how).unlink(missing_ok=True)
            child.kill()
    assert child.returncode == 4, said
    assert "The workers were not asked to stop" in said, said
    assert "Traceback" not in said, said
    goes_on_and_is_adopted(bench)


def test_one_failed_look_at_the_curves_ends_nothing(bench):
    steps: list[tuple[str, int]] = []

    def watch(point: drillyard.Point) -> None:
        if not steps:
            (bench.folder / "blip").touch()
        steps.append((point.run, point.step))
        if (bench.folder / "failed").exists():
            bench.gate.touch()

    assert bench.run(callbacks=watch).status == "SUCCEEDED"
    assert (bench.folder / "failed").exists()
    for seed in (1, 2):
        mine = [step for run, step in steps if run == f"t0001-s{seed}"]
        assert mine == list(range(1, len(mine) + 1)) and len(mine) >= 20
    assert not bench.cancelled()
