"""`drillyard replay` from a real run: workers, mailbox, code bundle, command."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.cli.main import main
from drillyard.errors import RunFailed, WorkerLost
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.failed_episode import newest
from drillyard.mailbox.records import Phase
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy
PROGRAM = str(Path(sys.executable).with_name("drillyard"))
WORLD = """
import os, signal
import gymnasium as gym
import numpy as np


class Tank(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, how="raises"):
        self.how, self.n, self.total, self.level = how, 0, 0, 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n, self.level = 0, float(self.np_random.uniform(0, 5))
        return np.array([self.level], np.float32), {}

    def step(self, action):
        self.n, self.total = self.n + 1, self.total + 1
        self.level += float(self.np_random.random() + action[0])
        if self.total > 150 and self.level > 12:
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGSEGV)
            raise ZeroDivisionError("the pump is dry")
        info = {"state_level": self.level}
        return np.array([self.level], np.float32), -self.level, False, self.n >= 32, info
"""
FILE = """
name: NAME
simulator: {id: "tank_world:Tank", args: {how: HOW}}
learner: {algorithm: a2c, args: {n_steps: 32}}
train: {steps: 20_000, n_envs: 2, checkpoint_every: 100_000, copies: WAYS}
evaluate: {episodes: 1}
seeds: [5]
baselines: []
tracking: {mlflow: null, tensorboard: false}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRILLYARD_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "tank_world.py").write_text(WORLD)
    yield tmp_path
    sys.modules.pop("tank_world", None)


def failed(place: Path, how: str, ways: str) -> Mailbox:
    file = place / "user" / f"{how}.yaml"
    text = FILE.replace("NAME", how).replace("HOW", how).replace("WAYS", ways)
    file.write_text(text)
    with pytest.raises((RunFailed, WorkerLost)):
        drillyard.run(file, store=place / "store", report=False, flow=False)
    sys.modules.pop("tank_world", None)
    return Mailbox(open_store(str(place / "store")), how)


def replayed(capsys: Any, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["replay", *words])
    sys.modules.pop("tank_world", None)
    out = capsys.readouterr()
    return code, out.out + out.err


@pytest.mark.parametrize("ways", ["one-by-one", "processes"])
def test_a_failed_run_is_replayed_from_the_mailbox_alone(place, capsys, ways):
    mailbox = failed(place, "raises", ways)
    ending = mailbox.ending("t0001-s5.train", 1)
    words = (
        r"ZeroDivisionError: the pump is dry",
        r"step \d+ of episode \d+ \(copy \d, reset with seed \d+\)",
        r", in tank_world.py:\d+, in step",  # not the run's copy of it
        r"training step [\d,]+, run seed 5",
    )
    assert [w for w in words if not re.search(w, ending.message)] == [], ending.message
    assert "`drillyard replay raises/t0001-s5` replays that episode" in str(ending.hint)
    shutil.rmtree(place / "user")  # the user's folder is not needed

    code, said = replayed(capsys, "raises/t0001-s5", "--json")
    answer = json.loads(said)
    assert (code, answer["exact"], answer["reproduced"]) == (0, True, True), said
    assert (answer["run_seed"], answer["actions"]) == (5, "recorded")
    assert f"training step {answer['training_step']:,}," in ending.message
    at = f"step {answer['step']} of episode {answer['episode']} (copy {answer['copy']},"
    assert at in ending.message

    code, said = replayed(capsys, "raises", "--to", "3")  # its only failed run
    assert code == 0 and "step 3: action" in said and "step 4" not in said
    assert re.search(r"step 3: action .*, states: level -?[\d.]+$", said, re.M), said
    code, said = replayed(capsys, "raises/t0001-s5", "--to", "9999")
    assert code == 2 and "is after the step that failed" in said
    code, said = replayed(capsys, "raises/t0001-s5", "--episode", "9999")
    assert code == 2 and "episode 9999 is not recorded" in said
    code, said = replayed(capsys, "raises/t0001-s9")
    assert code == 2 and "no run 't0001-s9'" in said
    code, said = replayed(capsys, "raises/t0001-s5", "--debug", "--json")
    assert code == 2 and "cannot be combined with --json" in said

    record = mailbox.experiment_record()  # as after `--allow-change`
    mailbox.write("experiment.json", record.model_copy(update={"code": None}))
    code, said = replayed(capsys, "raises/t0001-s5")
    assert code == 0 and "note: the code of this experiment was changed since" in said

    command = [PROGRAM, "replay", "raises/t0001-s5", "--debug"]
    done = run_process(command, input="p self.n\nc\n")
    # It stops in the first line of the user's step, before the step was counted.
    assert "self.n, self.total = self.n + 1" in done.stdout, done.stdout + done.stderr
    assert f"(Pdb) {answer['step'] - 1}\n" in done.stdout
    assert done.returncode == 0


def test_a_process_that_ended_in_the_simulator_is_replayed(place, capsys):
    mailbox = failed(place, "dies", "one-by-one")
    record = newest(mailbox, "t0001-s5")
    assert record is not None and record.step is None
    ending = mailbox.ending("t0001-s5.train", record.attempt)
    assert re.search(r"episode \d+ of copy \d; run seed 5", ending.message), ending.message
    assert "drillyard replay dies/t0001-s5" in str(ending.hint)
    code, said = replayed(capsys, "dies/t0001-s5")
    assert code == 0 and "the simulator ended the process with SIGSEGV, as in the run" in said


def test_an_older_failure_is_played_by_the_policy_or_refused(place, capsys):
    mailbox = failed(place, "raises", "one-by-one")
    record = newest(mailbox, "t0001-s5")
    path = f"{mailbox.attempt_path('t0001-s5', Phase.TRAIN, record.attempt)}/failed_episode.json"
    mailbox.store.delete(mailbox.key(path))
    code, said = replayed(capsys, "raises/t0001-s5")
    assert code == 2 and "it has no checkpoint whose policy could play one" in said


def test_a_run_that_did_not_fail_is_refused(place, capsys):
    file = place / "user" / "fine.yaml"
    text = FILE.replace("NAME", "fine").replace("HOW", "fine").replace("WAYS", "one-by-one")
    file.write_text(text.replace("20_000", "128"))
    drillyard.run(file, store=place / "store", report=False, flow=False)
    for words in (["fine/t0001-s5"], ["fine/t0001-s5", "--debug"]):
        code, said = replayed(capsys, *words)
        assert code == 2 and "fine/t0001-s5 did not fail: it is SUCCEEDED" in said
