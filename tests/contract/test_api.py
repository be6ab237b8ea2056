"""drillyard from Python: real runs on the local backend, points while they are under way."""

import functools
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import drillyard
from drillyard.errors import ConfigError, RunFailed, UserError
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import AttemptStart
from tests.helpers.processes import run_process

run = functools.partial(drillyard.run, flow=False)  # tests/flows has the way through Prefect
DOC = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"

WORKLOAD = '''
"""Counts; writes a point a step; goes on from the last checkpoint."""
import json, time
from drillyard.runs import checkpoints
from drillyard.mailbox.records import AttemptStart, Manifest
from drillyard.runs.workload import PhaseOutcome
from drillyard.metrics.streams import StreamWriter

class Count:
    kind = "count"
    def check(self, spec, folder): return []
    def preload(self, spec): return []
    def freeze(self, spec, seed): return {}

    def train(self, context):
        p = context.run.parameters
        at = checkpoints.latest(context.mailbox, context.run.run)
        first = at.meta.step if at else 0
        context.mailbox.write(f"{context.folder}/start.json", AttemptStart(
            attempt=context.attempt, started_at=0.0,
            resumed_attempt=at.meta.attempt if at else None,
            resumed_step=first if at else None))
        writer = StreamWriter(context.mailbox, context.run.run, context.attempt,
                              offsets=at.meta.stream_offsets if at else None)
        for step in range(first + 1, int(p["steps"]) + 1):
            context.stop.check()
            if p.get("fail") == step:
                raise ValueError("the belt slipped")
            time.sleep(float(p["step_s"]))
            writer.append("train", step, {"rollout/ep_rew_mean": context.run.seed * step})
            if step % 5 == 0:
                checkpoints.save(context.mailbox, context.run.run, context.attempt, step, step,
                                 {"s.json": b"{}"}, writer.flush(), 0.0)
        writer.flush()
        entry = context.save("done.json", json.dumps({"first": first}).encode())
        return PhaseOutcome(files=Manifest(files={"done.json": entry}),
                            summary={"steps": int(p["steps"]), "first": first})

    def evaluate(self, context):
        return PhaseOutcome(summary={})
'''

FILE = """
name: count
workload: "count_work:Count"
parameters: {const_args: {steps: 20, step_s: 0.005, fail: 0}}
seeds: [1, 2]
tracking: {mlflow: null}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "count_work.py").write_text(WORKLOAD)
    (tmp_path / "count.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("count_work", None)


def nothing_rented(folder, name="count"):
    mailbox = Mailbox(open_store(str(folder / "drillyard-runs")), name)
    entries = Ledger(mailbox).entries()
    return bool(entries) and not any(e.open for e in entries)


@pytest.mark.parametrize("way", ["false", "raise"])
def test_a_callback_stops_and_the_same_call_goes_on(folder, way):
    seen = []

    def impatient(point):
        seen.append(point.step)
        if point.step >= 10 and way == "raise":
            raise drillyard.StopRun
        return point.step < 10

    experiment = drillyard.load("count.yaml", steps=400, step_s=0.05, seeds=[1])
    results = run(experiment, callbacks=impatient, report=False)
    assert results.status == "CANCELLED"
    assert max(seen) < 300 and nothing_rented(folder)
    quick = drillyard.load("count.yaml", steps=400, step_s=0.05, seeds=[1])
    stopped = threading.Event()
    points = []

    def collect(point):
        points.append(point.step)
        if point.step >= 60:
            stopped.set()
            return False
        return True

    run(quick, callbacks=collect, report=False)
    assert stopped.is_set()
    assert points[:60] == list(range(1, 61))
    mailbox = Mailbox(open_store("drillyard-runs"), "count")
    starts = sorted(
        i.key
        for i in mailbox.store.list(mailbox.key("runs/t0001-s1/attempts/"))
        if i.key.endswith("start.json")
    )
    assert len(starts) == 2
    second = AttemptStart.from_bytes(mailbox.store.get(starts[1]))
    assert second.resumed_step and second.resumed_step >= 5


def test_two_calls_side_by_side_from_threads(folder):
    def call(number):
        return run(
            drillyard.load("count.yaml", name=f"side{number}", seeds=[number]), report=False
        )

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(call, (1, 2)))
    assert [(r.name, r.status, r.runs[0].seed) for r in found] == [
        ("side1", "SUCCEEDED", 1),
        ("side2", "SUCCEEDED", 2),
    ]
    assert all(nothing_rented(folder, r.name) for r in found)


def test_an_error_of_a_callback_is_raised_and_nothing_is_left(folder):
    def broken(point):
        raise ZeroDivisionError("mine")

    experiment = drillyard.load("count.yaml", steps=200, step_s=0.02)
    with pytest.raises(ZeroDivisionError, match="mine"):
        run(experiment, callbacks=broken, report=False)
    assert nothing_rented(folder)


def test_a_failed_run_raises_what_it_said(folder):
    with pytest.raises(RunFailed, match="the belt slipped"):
        run(drillyard.load("count.yaml", fail=3), report=False)
    assert nothing_rented(folder)


def test_a_changed_specification_runs_as_another_experiment(folder):
    spec = drillyard.load("count.yaml").spec.model_copy(update={"name": "copy", "seeds": [9]})
    found = run(spec, store=folder / "other", report=False)
    assert (found.name, [r.seed for r in found.runs]) == ("copy", [9])
    assert not (folder / "drillyard-runs").exists()
    wrong = spec.model_copy(update={"seeds": [-1]})
    with pytest.raises(UserError):
        run(wrong, report=False)


def test_overrides_are_those_of_the_command_line(folder):
    loaded = drillyard.load(
        "count.yaml",
        globals=["{steps: 7}"],
        step_s=0.5,
        seeds=[3],
        resources={"workers": 1},
        tracking__tensorboard=False,
    )
    assert loaded.spec.parameters.const_args == {"steps": 7, "step_s": 0.5, "fail": 0}
    assert (loaded.spec.seeds, loaded.spec.resources.workers) == ([3], 1)
    assert loaded.spec.tracking.tensorboard is False
    assert loaded.provenance["resources.workers"] == "--set"
    assert loaded.provenance["resources.threads"] == "default"
    with pytest.raises(UserError, match="nope"):
        drillyard.load("count.yaml", nope=1)


class Outer:
    class Inner:
        pass


def test_classes_travel_by_name(folder):
    from drillyard.spec.from_python import plain

    assert plain({"a": [Outer.Inner]}, "x") == {"a": [f"{__name__}:Outer.Inner"]}

    class Local:
        pass

    for thing in (Local, lambda: 1, object()):
        with pytest.raises(ConfigError) as error:
            plain(thing, "learner.args.policy_kwargs")
        assert error.value.hint and "learner.args.policy_kwargs" in str(error.value)
    program = "import drillyard.spec.from_python as a\nclass Net: pass\na.plain(Net, 'x')"
    done = run_process([sys.executable, "-c", program])
    assert "workers do not run" in done.stderr


def test_importing_drillyard_costs_nothing():
    program = textwrap.dedent("""
        import sys
        import drillyard
        heavy = {"torch", "prefect", "mlflow", "pydantic", "numpy"} & set(sys.modules)
        assert {"load", "run", "generate", "register"} <= set(dir(drillyard))
        print(sorted(heavy), callable(drillyard.generate), callable(drillyard.run))
        import drillyard.authoring.generate
        print(callable(drillyard.generate))
    """)
    done = run_process([sys.executable, "-c", program])
    assert done.stdout.split("\n")[:2] == ["[] True True", "True"], done.stderr


def blocks():
    """The files of the page, by name."""
    import re

    text = DOC.read_text()
    found = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return dict(found)


def test_the_loop_of_the_page_is_short():
    """tests/docs runs it; here only that it is what it promises."""
    code = [line for line in blocks()["loop.py"].splitlines() if line.strip()]
    assert len(code) < 15 and "callbacks=" in blocks()["loop.py"]
