"""Where a simulator was when its process died; the same for all copies at once."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import RunFailed
from drillyard.mailbox.records import Claim
from drillyard.simulators.batch_protocol import OneOf
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec
from drillyard.system import step_marker
from drillyard.system.clock import SYSTEM
from drillyard.system.user_code import place
from drillyard.worker.endings import of_exit
from tests.helpers.patience import PATIENCE_S
from tests.helpers.steady_world import Steady

CLAIM = Claim(ticket="t0001-s1.train", attempt=1, worker="w", token="t", claimed_at=0.0)


class Batch:
    """Episodes without an end; the third step raises."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, n: int) -> None:
        self.n, self.steps = n, 0
        self.rngs: list[Any] = [None] * n

    def begin(self, copy: int, options: Any) -> None:
        pass

    def step(self, actions: Any) -> Any:
        self.steps += 1
        if self.steps == 3:
            raise ZeroDivisionError("the pump is dry")
        return np.zeros(self.n), np.zeros(self.n, bool), np.zeros(self.n, bool)

    def observe(self) -> Any:
        return np.zeros((self.n, 1), np.float32)

    def info(self, copy: int) -> dict[str, Any]:
        return {}


class One(OneOf):
    """One copy of it, which ends its process where it would raise."""

    simulator = vectorised = Batch

    def step(self, action: Any) -> Any:
        try:
            return super().step(action)
        except ZeroDivisionError:
            os.kill(os.getpid(), signal.SIGKILL)


SPEC = SimulatorSpec.model_validate({"id": f"{__name__}:One"})


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(step_marker, "_memory", bytearray(len(step_marker._memory)))
        yield


def dies(folder: Path) -> None:
    step_marker.keep_in(folder)
    env = make_env(SPEC, copy=2)
    env.reset(seed=7)
    while True:
        env.step(env.action_space.sample())


@pytest.mark.heavy
def test_the_step_is_known_after_the_process_died_in_it(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=dies, args=(tmp_path,))
    child.start()
    child.join(PATIENCE_S)
    inside = step_marker.inside(tmp_path)
    assert inside == "step 3 of an episode (copy 2, reset with seed 7)"
    ended = of_exit(CLAIM, SYSTEM, child.exitcode, out_of_memory=False, inside=inside)
    assert ended.message == f"the process was ended by SIGKILL, in {inside}"
    hung = of_exit(CLAIM, SYSTEM, -signal.SIGALRM, out_of_memory=False, inside=inside)
    assert f", in {inside}, and was ended by budget.stall_s" in hung.message


def test_outside_of_a_simulator_nothing_is_said(tmp_path):
    assert step_marker.inside(tmp_path) == ""
    step_marker.keep_in(tmp_path)
    env = make_env(SPEC)
    env.reset(seed=7)
    env.step(env.action_space.sample())
    assert step_marker.inside() == step_marker.inside(tmp_path) == step_marker.of(0) == ""
    step_marker.enter(0, 0, None)
    assert step_marker.inside(tmp_path) == "the reset of an episode (copy 0, reset with seed None)"
    ended = of_exit(CLAIM, SYSTEM, 3, out_of_memory=False)
    assert ended.message == "the process ended with code 3 before it had a result"


def test_all_copies_at_once_are_named_together():
    venv = make_vec(SPEC, 4, 7, how="vectorised")
    venv.reset()
    with pytest.raises(ZeroDivisionError) as caught:
        for _ in range(3):
            venv.step(np.zeros((4, 1), np.float32))
    (note,) = caught.value.__notes__
    assert note.startswith("in the simulator, at step 3 of all 4 copies at once (seeds 7 to 10)")
    assert re.search(r", in \S*test_whereabouts\.py:\d+, in \w+$", note), note


class Odd(Steady):
    """Fails in a line of its own, deep in numpy, or pays with an array."""

    def __init__(self, how: str = "") -> None:
        self.how = how
        self.paid: Any = {"array": np.ones(2), "text": "much"}.get(how, 1.0)

    def step(self, action: np.ndarray) -> Any:
        if self.how == "deep":
            np.linalg.inv(np.zeros((2, 3)))
        return super().step(action)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            "array",
            r"the reward is an array of shape \(2,\), where one number is needed, at step 1",
        ),
        ("text", "the reward is 'much', where one number is needed, at step 1"),
    ],
)
def test_a_reward_that_is_not_a_number_is_told_in_plain_words(how, words):
    env = make_env(SimulatorSpec.model_validate({"id": f"{__name__}:Odd", "args": {"how": how}}))
    env.reset(seed=7)
    with pytest.raises(RunFailed, match=words + r" of episode 1 \(copy 0, reset with seed 7\)"):
        env.step(env.action_space.sample())


def test_the_line_is_the_users_and_not_numpys():
    env = make_env(
        SimulatorSpec.model_validate({"id": f"{__name__}:Odd", "args": {"how": "deep"}})
    )
    env.reset(seed=7)
    with pytest.raises(np.linalg.LinAlgError) as caught:
        env.step(env.action_space.sample())
    (note,) = caught.value.__notes__
    assert re.search(r"step 1 .*, in \S*test_whereabouts\.py:\d+, in step$", note), note


def test_the_line_is_that_of_the_experiments_own_file_not_of_the_runs_copy(tmp_path):
    copy = tmp_path / "scratch" / "code" / "code-bbb4aa404e466f63" / "plant" / "tanks.py"
    copy.parent.mkdir(parents=True)
    copy.write_text("def step():\n    raise ValueError('dry')\n")
    step = runpy.run_path(str(copy))["step"]
    with pytest.raises(ValueError, match="dry") as caught:
        step()
    assert place(caught.value) == "plant/tanks.py:2, in step"
