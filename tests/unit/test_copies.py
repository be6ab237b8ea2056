"""How copies are stepped: side by side in processes too, and chosen once a run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import CorruptObject, RunFailed, SimulatorError
from drillyard.learners import copies
from drillyard.learners.copies import Copies
from drillyard.mailbox.records import Phase
from drillyard.simulators.make import make_vec
from drillyard.simulators.processes import ProcessesEnv
from drillyard.simulators.vector import (
    load_normalisation,
    load_vec_state,
    normalisation,
    silent_layers,
    vec_state,
)
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload

REACTOR = {"id": "cstr", "wrappers": ["normalize"],
           "lesson": {"Cref_signal": {"values": [1, 2, 3]}}}  # fmt: skip


class Odd(gym.Env):
    """Goes wrong in its third step, in the copy that was given the largest seed."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault: str = "", pause_s: float = 0.0, only: str = "") -> None:
        self.fault, self.pause_s, self.n, self.bad = fault, pause_s, 0, False
        try:
            if only:
                os.mkdir(only)
        except FileExistsError:
            if fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.n, self.bad = 0, seed == 8 or (self.bad and seed is None)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.n += 1
        time.sleep(self.pause_s)
        if self.bad and self.n == 3 and self.fault == "raises":
            raise ZeroDivisionError("the pump is dry")
        if self.bad and self.n == 3 and self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(1, np.float32), 0.0, False, self.n >= 50, {}


def spec(values: dict[str, Any]) -> SimulatorSpec:
    return SimulatorSpec.model_validate(values)


def walk(venv: Any, steps: int) -> list[Any]:
    given = np.random.default_rng(steps).uniform(-1, 1, (steps, venv.num_envs, 1))
    return [venv.step(actions.astype(np.float32)) for actions in given]


def test_processes_give_the_same_and_go_on_in_mid_episode() -> None:
    one, two, side = (make_vec(spec(REACTOR), 2, 5, how=how) for how in
                      ("one-by-one", "processes", "processes"))  # fmt: skip
    try:
        assert isinstance(two.unwrapped, ProcessesEnv)
        assert not silent_layers(two)
        assert repr(one.reset()) == repr(two.reset())
        for ours, theirs in zip(walk(one, 120), walk(two, 120), strict=True):
            assert np.array_equal(ours[0], theirs[0])
            assert np.array_equal(ours[1], theirs[1])
            assert [i.get("episode") for i in ours[3]] == [i.get("episode") for i in theirs[3]]
        state = vec_state(two)
        assert state is not None
        side.reset()
        load_vec_state(side, state)
        load_normalisation(side, normalisation(two) or {})
        assert repr(walk(two, 40)) == repr(walk(side, 40))
        with pytest.raises(CorruptObject, match="2 copies, not 1"):
            load_vec_state(make_vec(spec(REACTOR), 1, 5), state)
    finally:
        two.close()
        side.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raises", ["ZeroDivisionError: the pump is dry", "step 3", "copy 1", "seed 8"]),
        ("dies", ["copy 1", "SIGKILL", "step 3 of an episode", "seed 8"]),
    ],
)
def test_what_goes_wrong_in_a_process_is_told_at_home(fault: str, words: list[str]) -> None:
    venv = make_vec(spec({"id": f"{__name__}:Odd", "args": {"fault": fault}}), 2, 7,
                    how="processes")  # fmt: skip
    children = [process.pid for process in venv.processes]
    try:
        venv.reset()
        with pytest.raises(RunFailed) as caught:
            walk(venv, 5)
        said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert [word for word in words if word not in said] == []
    finally:
        venv.close()
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raises", r"could not be made.*FileExistsError"),
        ("dies", r"process of copy \d ended"),
    ],
)
def test_a_copy_that_cannot_be_made_is_told_and_the_others_end(
    fault: str, words: str, tmp_path: Any
) -> None:
    """A licence for one: Stable-Baselines3 waits without end for a copy that is not the first."""
    args = {"fault": fault, "only": str(tmp_path / "taken")}
    with pytest.raises((RunFailed, SimulatorError), match=words):
        make_vec(spec({"id": f"{__name__}:Odd", "args": args}), 3, 7, how="processes")
    assert multiprocessing.active_children() == []


def training(tmp_path: Any, **more: Any) -> OneRun:
    simulator = more.pop("simulator", {"id": f"{__name__}:Odd"})
    values = {
        "schema": 1, "name": "x", "simulator": simulator,
        "learner": {"algorithm": "ppo", "args": {"n_steps": 32, "batch_size": 32}},
        "train": {"steps": 128, "n_envs": 2, **more},
        "tracking": {"mlflow": None, "tensorboard": False},
    }  # fmt: skip
    return OneRun(tmp_path, ExperimentSpec.model_validate(values), RlWorkload())


def recorded(one: OneRun) -> Copies | None:
    return one.mailbox.read(f"runs/{one.run}/copies/run.json", Copies)


def test_a_short_training_goes_by_the_rule(tmp_path: Any) -> None:
    one = training(tmp_path)
    assert one.phase(Phase.TRAIN).summary["parameters"]["copies"] == "one-by-one"
    assert recorded(one) == Copies(how="one-by-one")


def test_the_fastest_way_is_measured_once_and_kept(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float]] = []
    speeds = {"one-by-one": 1.0, "vectorised": 50.0, "processes": 80.0}

    def rate(_simulator: Any, _n: int, how: Any, limit_s: float) -> float:
        asked.append((how, round(limit_s, 3)))
        return speeds[how]

    monkeypatch.setattr(copies, "_rate", rate)
    monkeypatch.setattr(copies.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    one = training(tmp_path, simulator={"id": "cstr"})
    assert one.phase(Phase.TRAIN).summary["parameters"]["copies"] == "processes"
    assert asked == [("one-by-one", 0.1), ("one-by-one", 0.667), ("vectorised", 0.667),
                     ("processes", 0.667)]  # fmt: skip
    assert recorded(one) == Copies(how="processes", steps_per_s=speeds)
    speeds["vectorised"] = 1e6
    assert (
        one.phase(Phase.TRAIN).summary["parameters"]["copies"] == "processes"
    )  # again: as recorded
    assert len(asked) == 4
    given = training(tmp_path / "given", simulator={"id": "cstr"}, copies="vectorised")
    assert given.phase(Phase.TRAIN).summary["parameters"]["copies"] == "vectorised"
    assert recorded(given) is None
    assert len(asked) == 4


def test_copies_that_wait_are_faster_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real measurement: four copies that do nothing but wait, for a long training."""
    monkeypatch.setattr(copies, "MEASURE_S", 1.0)
    monkeypatch.setattr(copies.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    slow = spec({"id": f"{__name__}:Odd", "args": {"pause_s": 0.05}})
    found = copies._fastest(slow, 4, 1_000_000)
    assert found.how == "processes"
    assert set(found.steps_per_s) == {"one-by-one", "processes"}
    assert copies._fastest(slow, 4, 100) == Copies(how="one-by-one")  # not worth a measurement


def test_a_rate_is_that_of_all_copies() -> None:
    slow = spec({"id": f"{__name__}:Odd", "args": {"pause_s": 0.01}})
    assert 0 < copies._rate(slow, 2, "one-by-one", 0.05) < 100
    assert json.loads(Copies(how="processes").to_bytes())["how"] == "processes"
