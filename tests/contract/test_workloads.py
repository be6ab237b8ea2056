"""Script, mock and composite through the driver, the local backend and the command line."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from drillyard.driver.driver import Driver
from drillyard.errors import RunFailed, TimedOut
from drillyard.mailbox.status import Cause, Status
from drillyard.report import build
from drillyard.results import collect
from drillyard.spec import ExperimentSpec
from drillyard.spec.load import load
from drillyard.system.processes import ProcessId
from drillyard.testing.workload_suite import WorkloadSuite
from drillyard.workloads.composite import CompositeWorkload
from drillyard.workloads.mock import MockWorkload
from drillyard.workloads.script import ScriptWorkload
from tests.helpers.driven import Place, begin, finish, lived_in
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.played_gpu import TOO_OLD, played

WORK = """
import os, subprocess, sys, time
from pathlib import Path
marks = Path(os.environ["marks"])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
(marks / f"{os.environ['DRILLYARD_RUN']}.{os.environ['DRILLYARD_ATTEMPT']}").write_text(
    str(child.pid))
while not (marks / "gate").exists():
    time.sleep(0.02)
print("score=4.5", flush=True)
"""
FILE = """
schema: 1
name: work
workload: script
parameters: {const_args: {marks: MARKS}}
script:
  run: [work.py]
  teardown: [[touch, "MARKS/torn"]]
  results: {stdout: '^(\\w+)=(\\S+)$'}
  max_time_s: LIMIT
tracking: {mlflow: null}
"""


class ScriptPlace(Place):
    """A user's folder with a script, a store and a local backend of their own."""

    def written(self, text: str, limit: str = "null", **files: str) -> Driver:
        """A driver of an experiment's file."""
        for name, content in {"work.py": WORK, **files}.items():
            (self.folder / name).write_text(content)
        file = self.folder / "it.yaml"
        file.write_text(text.replace("MARKS", str(self.marks)).replace("LIMIT", limit))
        loaded = load(file)
        self.name = loaded.spec.name
        return Driver(loaded, self.mailbox, self.backend())


@pytest.fixture
def place(tmp_path, monkeypatch):
    made = ScriptPlace(tmp_path)
    with lived_in(made, monkeypatch):
        yield made


def gone(pid: int) -> bool:
    return ProcessId.of(pid) is None


def test_a_killed_script_starts_over_and_leaves_nothing(place):
    """kill -9 of the ticket's process: its commands die with it; the next attempt does it all."""
    driver = place.written(FILE)
    begin(driver)
    first = place.pid_of("t0001-s1", 1)
    (worker,) = [p for p in place.processes() if is_ticket(p.pid)]
    os.kill(worker.pid, signal.SIGKILL)
    place.pid_of("t0001-s1", 2)
    until(lambda: gone(first), what="an end of what the first attempt started")
    (place.marks / "gate").touch()
    finish(driver, place)
    assert place.processes() == []
    (run,) = collect(driver.mailbox).runs
    assert (run.status, run.attempts, run.metrics) == ("SUCCEEDED", 2, {"score": 4.5})
    assert driver.mailbox.ending("t0001-s1.train", 1).cause is Cause.INFRASTRUCTURE


def is_ticket(pid: int) -> bool:
    """The process that works on a ticket: the parent of the script."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if "work.py" in command and int(fields[1]) == pid:
            return True
    return False


def test_a_time_limit_is_timed_out(place):
    driver = place.written(FILE, limit="1")
    begin(driver)
    with pytest.raises(TimedOut, match="not done after 1 s"):
        driver.wait("t0001-s1.train", PATIENCE_S)
    assert gone(place.pid_of("t0001-s1", 1)) and (place.marks / "torn").exists()
    driver.teardown()
    assert driver.states()["t0001-s1.train"].status is Status.TIMED_OUT
    driver.close("failed")


def test_a_failed_script_is_not_tried_again_and_the_report_says_why(place):
    text = FILE.replace("run: [work.py]", "run: ['no-such-program']")
    driver = place.written(text)
    begin(driver)
    with pytest.raises(RunFailed, match="does not start"):
        driver.wait("t0001-s1.train", PATIENCE_S)
    driver.teardown()
    driver.close("failed")
    (run,) = collect(driver.mailbox).runs
    assert (run.status, run.attempts) == ("FAILED", 1)
    page = Path(build(driver.mailbox).index).read_text()
    assert "no-such-program" in page and "Metrics" in page


def test_a_driver_that_is_too_old_for_a_script_is_one_sentence_and_one_attempt(
    place, tmp_path, monkeypatch
):
    """torch raises its own sentence where no GPU was asked for, so nobody compared before."""
    for name, value in played(tmp_path / "gpu", driver="535.183.01").items():
        monkeypatch.setenv(name, value)
    driver = place.written(FILE, **{"work.py": f"raise RuntimeError({TOO_OLD!r})"})
    begin(driver)
    with pytest.raises(RunFailed) as failed:
        driver.wait("t0001-s1.train", PATIENCE_S)
    driver.teardown()
    driver.close("failed")
    text = "NVIDIA driver 535.183.01 runs CUDA up to 12.2, and torch 2.13.0 is built for CUDA 13.0"
    assert str(failed.value).count(text) == 1 and "needs driver 580" in str(failed.value)
    assert "nvidia.com" not in str(failed.value)
    assert "Hardware, Drivers" in str(failed.value.hint)
    (run,) = collect(driver.mailbox).runs
    assert (run.status, run.attempts, len(list(driver.mailbox.workers()))) == ("FAILED", 1, 1)


RL = """
schema: 1
name: whole
workload: composite
parameters: {const_args: {goal: 2}}
children:
  - name: before
    workload: script
    parameters: {required_args: [goal]}
    script: {run: ['sh -c "echo $goal > made; echo made=1"'], results: {stdout: '(\\w+)=(\\d+)'}}
  - name: agent
    workload: rl
    prefix: true
    simulator: {id: "world:World"}
    learner: {algorithm: ppo, preset: null, args: {n_steps: 32, batch_size: 32, n_epochs: 1}}
    train: {steps: 128, checkpoint_every: 64}
    evaluate: {episodes: 4}
    baselines: [random]
  - name: after
    workload: script
    script: {run: [sum.py], results: {file: sum.json}}
tracking: {mlflow: null, tensorboard: false}
"""
WORLD = """
import gymnasium as gym, numpy as np
from gymnasium import spaces
from pathlib import Path

class World(gym.Env):
    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        # Written by the child before; a check that runs beside the file finds none.
        self.goal = int(Path("made").read_text()) if Path("made").exists() else 0
        return np.zeros(1, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), float(self.goal), False, self.t == 8, {}
"""
SUM = "import json; json.dump({'lines': len(open('made').readlines())}, open('sum.json', 'w'))"


def test_a_policy_between_scripts(place):
    """Children share the run's folder; the policy's files and scores are those of the run."""
    driver = place.written(RL, **{"world.py": WORLD, "sum.py": SUM})
    begin(driver)
    finish(driver, place)
    found = collect(driver.mailbox)
    metrics = {m.metric: m.mean for m in found.metrics}
    assert metrics["made"] == 1.0 and metrics["lines"] == 1.0
    assert {p.policy for p in found.policies} == {"agent", "random"}
    (run,) = found.runs
    assert run.step == 128 and run.best is None
    folder = place.tmp / "store" / "whole" / "runs" / run.run
    assert (folder / "policy" / "final_model.zip").exists()
    trained = json.loads((folder / "train.accepted.json").read_text())
    assert trained["summary"]["episodes"] == 16
    assert "agent/return" in metrics
    page = Path(build(driver.mailbox).index).read_text()
    assert "Learning curves" in page and "agent/return" in page


def test_a_killed_composite_resumes_its_policy(place):
    """The scripts start over; the policy goes on from its last checkpoint, and counts on."""
    slow = WORLD.replace("self.t += 1", "self.t += 1; import time; time.sleep(0.01)")
    who = "import os; open('MARKS/ticket', 'w').write(str(os.getppid()))"
    text = RL.replace("steps: 128", "steps: 320").replace(
        "script: {run: [sum.py]", f'script: {{setup: [[python, -c, "{who}"]], run: [sum.py]'
    )
    driver = place.written(text, **{"world.py": slow, "sum.py": SUM})
    begin(driver)
    runs = place.tmp / "store" / "whole" / "runs" / "t0001-s1"
    first = runs / "attempts" / "train-1"
    until(lambda: list(first.glob("checkpoints/*/manifest.json")), what="a first checkpoint")
    assert not (runs / "train.accepted.json").exists()
    os.kill(int((place.marks / "ticket").read_text()), signal.SIGKILL)
    finish(driver, place)
    began = json.loads((runs / "attempts" / "train-2" / "start.json").read_text())
    assert began["resumed_attempt"] == 1 and began["resumed_step"] >= 64
    (run,) = collect(driver.mailbox).runs
    assert (run.step, run.attempts, run.resumes) == (320, 2, 1)
    assert run.metrics["made"] == 1.0


SCRIPT = {
    "run": [[sys.executable, "-c", "print('n=1'); import time; time.sleep(0.2)"]],
    "results": {"stdout": r"(\w+)=(\d+)"},
}


class TestScript(WorkloadSuite):
    @pytest.fixture
    def workload(self):
        return ScriptWorkload()

    @pytest.fixture
    def spec(self):
        return ExperimentSpec(name="suite", workload="script", script=SCRIPT)


class TestMock(WorkloadSuite):
    @pytest.fixture
    def workload(self):
        return MockWorkload()

    @pytest.fixture
    def spec(self):
        return ExperimentSpec(name="suite", workload="mock", mock={"noise": 0.1, "points": 5})


class TestComposite(WorkloadSuite):
    @pytest.fixture
    def workload(self):
        return CompositeWorkload()

    @pytest.fixture
    def spec(self):
        children = [
            {"name": "a", "workload": "script", "script": SCRIPT},
            {"name": "b", "workload": "mock"},
        ]
        return ExperimentSpec(name="suite", workload="composite", children=children)
