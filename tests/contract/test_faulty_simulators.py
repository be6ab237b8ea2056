"""Simulators that hang or crash in a worker: named, the checkpoint is whole; mended they go on."""

import re
import sys

import pytest

import drillyard
from drillyard.errors import RunFailed
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import STREAMS
from drillyard.runs import checkpoints
from drillyard.simulators.streams import copy_seed

WORLD = """
import os, pathlib, re, signal, time

FAULTS = RESETS


class Level:
    def __init__(self, store):
        self.store, self.copy, self.steps = pathlib.Path(store), 0, 0

    def use_copy(self, copy):
        self.copy = copy

    def reset(self, config, rng):
        self.level, self.n = 0.0, 0
        self.reset_with = rng.bit_generator.seed_seq.entropy
        return {"level": self.level}

    def step(self, actions):
        self.level, self.n, self.steps = self.level + actions["inflow"], self.n + 1, self.steps + 1
        if self.copy == 1 and self.steps >= 150 and self.reset_with in FAULTS:
            seed, fault = FAULTS[self.reset_with]
            kept = f"*/runs/*-s{seed}/**/000000000256/manifest.json"
            while not list(self.store.glob(kept)):
                time.sleep(0.05)
            if fault == "hangs":
                time.sleep(100_000)
            if fault == "native":
                re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter
            os.kill(os.getpid(), signal.SIGSEGV)
        return {"level": self.level}

    def terminated(self):
        return False

    def truncated(self):
        return self.n >= 16

    def state(self):
        kept = ("level", "n", "steps", "reset_with")  # so each attempt fails at the same step
        return {name: getattr(self, name) for name in kept}

    def load_state(self, state):
        vars(self).update(state)
"""
FILE = """
name: faulty
simulator:
  id: "faulty_world:Level"
  args: {store: STORE}
  agent:
    observes: {level: {min: 0, max: 16}}
    acts: {inflow: {min: 0, max: 1}}
    reward: -abs(level - 5)
learner: {algorithm: a2c, args: {n_steps: 32}}
train: {steps: 640, n_envs: 2, checkpoint_every: 256, copies: one-by-one}
evaluate: {episodes: 1}
seeds: [1, 11, 21]
baselines: []
resources: {workers: 3}
budget: {stall_s: 30}
tracking: {mlflow: null, tensorboard: false}
"""

RESETS = {
    copy_seed(seed, 1, STREAMS): (seed, fault)
    for seed, fault in ((1, "hangs"), (11, "native"), (21, "dies"))
}
"""Seed with which copy 1 is reset first -> seed of the run, and what happens."""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    user = tmp_path / "user"
    user.mkdir()
    (user / "faulty_world.py").write_text(WORLD.replace("RESETS", repr(RESETS)))
    (user / "faulty.yaml").write_text(FILE.replace("STORE", str(tmp_path / "store")))
    yield user / "faulty.yaml"
    sys.modules.pop("faulty_world", None)


@pytest.mark.slow
def test_it_is_named_and_goes_on_once_it_is_mended(file, tmp_path):
    store = tmp_path / "store"
    with pytest.raises(RunFailed):
        drillyard.run(file, store=store, report=False, flow=False)
    mailbox = Mailbox(open_store(str(store)), "faulty")
    where = r"step \d+ of (?:an episode|episode \d+) \(copy 1, reset with seed {}\)"
    with_ = {seed: where.format(word) for word, (seed, _) in RESETS.items()}
    for seed, words in (
        (1, "no environment step for 30 s .* it hangs in " + with_[1]),
        (11, "never lets go of the interpreter, in " + with_[11]),
        (21, "ended by SIGSEGV, in " + with_[21]),
    ):
        ending = mailbox.ending(f"t0001-s{seed}.train", 1)
        assert re.search(words, ending.message), ending.message
        kept = checkpoints.latest(mailbox, f"t0001-s{seed}")
        assert kept is not None and kept.meta.step >= 256
    (file.parent / "faulty_world.py").write_text(WORLD.replace("RESETS", "{}"))
    sys.modules.pop("faulty_world", None)
    done = drillyard.run(file, store=store, report=False, flow=False, allow_change=True)
    assert done.status == "SUCCEEDED"
    for run in done.runs:
        assert run.resumes >= 1
