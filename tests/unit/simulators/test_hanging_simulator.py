"""A simulator that hangs or crashes is found out by the check, and named with step and seed."""

from __future__ import annotations

import json
import sys

import pytest

from drillyard.system.processes import ProcessId
from drillyard.system.watchdog import HangError, report_activity, run_watched
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import run_process

WORLD = """
import gymnasium as gym, numpy as np, os, re, signal, subprocess, sys, time
class W(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    def __init__(self, at):
        self.at, self.n = at, 0
        if at == "make":
            # What it started must go with it.
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            open("child.pid", "w").write(str(child.pid))
            time.sleep(600)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.at == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return np.zeros(1, np.float32), {}
    def step(self, action):
        self.n += 1
        print("printed by the simulator")
        if self.at == "step" and self.n == 7:
            re.match(r"(a+)+$", "a" * 60 + "b")  # native code that holds the interpreter
        return np.zeros(1, np.float32), 0.0, False, self.n % 20 == 0, {}
"""
FILE = """
name: hangs
simulator: {id: "hangs:W", args: {at: nowhere}}
learner: {algorithm: ppo}
train: {steps: 4096}
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("at", "check_s", "words"),
    [
        ("step", 6, "no sign of life for 6 s in: step 7, copy 0, seed 12345"),
        ("make", 6, "no sign of life for 6 s in: making hangs:W"),
        ("crash", 600, "it ended the process with SIGSEGV in: reset, copy 0, seed 12345"),
        ("nowhere", 600, ""),
    ],
)
def test_check_ends(tmp_path, at, check_s, words):
    (tmp_path / "hangs.py").write_text(WORLD)
    (tmp_path / "exp.yaml").write_text(FILE)
    done = run_process(
        [
            sys.executable,
            "-m",
            "drillyard.cli.start",
            "check",
            "exp.yaml",
            "--json",
            "--set",
            f"simulator.args.at={at}",
            "--set",
            f"budget.check_s={check_s}",
        ],
        cwd=tmp_path,
    )
    answer = json.loads(done.stdout)  # nothing that the simulator printed is in it
    errors = [f for f in answer["findings"] if f["severity"] == "error"]
    assert len(errors) == bool(words)
    assert all(words in f["message"] and f["subject"] == "simulator.id" for f in errors)
    assert done.returncode == (2 if words else 0)
    if at == "step":
        assert "budget.check_s" in errors[0]["fix"]
    pid = tmp_path / "child.pid"
    assert not pid.exists() or ProcessId.of(int(pid.read_text())) is None
    assert not (tmp_path / "drillyard-runs").exists()


def test_in_a_process_with_threads_the_waiting_ends_too():
    import threading

    gate, other = threading.Event(), threading.Event()
    beside = threading.Thread(target=other.wait)
    beside.start()
    try:

        def work() -> str:
            report_activity("one")
            report_activity("two")
            gate.wait(PATIENCE_S)
            return "done"

        with pytest.raises(HangError, match="in: two"):
            run_watched(work, 0.2, "zero")
        gate.set()
        assert run_watched(work, 5.0, "zero") == "done"
        with pytest.raises(ZeroDivisionError):
            run_watched(lambda: 1 / 0, 5.0, "zero")
    finally:
        gate.set()
        other.set()
        beside.join()
