"""How copies are stepped: side by side in processes too, and chosen once a run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import CorruptObject, ProcessKilled, RunFailed, SimulatorError
from drillyard.learners import vec_mode
from drillyard.learners.vec_mode import Copies
from drillyard.mailbox.records import Phase
from drillyard.registry import names
from drillyard.simulators import GYMNASIUM_IDS
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.processes import ProcessesEnv
from drillyard.simulators.vec_state import (
    load_normalisation,
    load_vec_state,
    normalisation,
    silent_layers,
    vec_state,
)
from drillyard.spec.learning import SimulatorSpec, Way
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.specs import small
from tests.helpers.steady_world import Steady

REACTOR = {
    "id": "cstr",
    "wrappers": ["normalize"],
    "lesson": {"Cref_signal": {"values": [1, 2, 3]}},
}


WORLDS = {
    "cstr": REACTOR,
    "simple-adder": {"id": "simple-adder"},
    "building": {"id": "building", "args": {"days": 1}},
    **{name: {"id": name} for name in ("CartPole-v0", "CartPole-v1", "Pendulum-v1")},
    **{name: {"id": name} for name in GYMNASIUM_IDS},
}


class Odd(Steady):
    """Goes wrong in its third step, in the copy that was given the largest seed."""

    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    length = 50

    def __init__(self, fault: str = "", pause_s: float = 0.0, only: str = "") -> None:
        self.fault, self.pause_s, self.bad = fault, pause_s, False
        try:
            if only:
                os.mkdir(only)
        except FileExistsError:
            if fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.bad = seed == 8 or (self.bad and seed is None)
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        time.sleep(self.pause_s)
        if self.bad and self.n == 2 and self.fault == "raises":
            raise ZeroDivisionError("the pump is dry")
        if self.bad and self.n == 2 and self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def spec(values: dict[str, Any]) -> SimulatorSpec:
    return SimulatorSpec.model_validate(values)


def walk(venv: Any, steps: int) -> list[Any]:
    given = np.random.default_rng(steps).uniform(-1, 1, (steps, venv.num_envs, 1))
    return [venv.step(actions.astype(np.float32)) for actions in given]


@pytest.mark.heavy
def test_processes_give_the_same_and_go_on_in_mid_episode():
    one, two, side = (
        make_vec(spec(REACTOR), 2, 5, how=how) for how in ("one-by-one", "processes", "processes")
    )
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


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raises", ["ZeroDivisionError: the pump is dry", "step 3", "copy 1", "seed 8"]),
        ("dies", ["copy 1", "SIGKILL", "step 3 of an episode", "seed 8"]),
    ],
)
def test_what_goes_wrong_in_a_process_is_told_at_home(fault, words):
    venv = make_vec(
        spec({"id": f"{__name__}:Odd", "args": {"fault": fault}}), 2, 7, how="processes"
    )
    children = [process.pid for process in venv.processes]
    try:
        venv.reset()
        with pytest.raises(ProcessKilled if fault == "dies" else RunFailed) as caught:
            walk(venv, 5)
        said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert [word for word in words if word not in said] == []
    finally:
        venv.close()
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raises", r"could not be made.*FileExistsError"),
        ("dies", r"process of copy \d ended"),
    ],
)
def test_a_copy_that_cannot_be_made_is_told_and_the_others_end(fault, words, tmp_path):
    """A licence for one: Stable-Baselines3 waits without end for a copy that is not the first."""
    args = {"fault": fault, "only": str(tmp_path / "taken")}
    with pytest.raises((RunFailed, ProcessKilled, SimulatorError), match=words):
        make_vec(spec({"id": f"{__name__}:Odd", "args": args}), 3, 7, how="processes")
    assert multiprocessing.active_children() == []


def training(tmp_path: Any, **more: Any) -> OneRun:
    simulator = more.pop("simulator", {"id": f"{__name__}:Odd"})
    train = {"steps": 128, "n_envs": 2, **more}
    learner = {"args": {"n_steps": 32, "batch_size": 32}}
    return OneRun(tmp_path, small(simulator, learner=learner, train=train), RlWorkload())


def recorded(one: OneRun) -> Copies | None:
    return one.mailbox.read(f"runs/{one.run}/copies/run.json", Copies)


@pytest.mark.heavy
def test_a_short_training_goes_by_the_rule(tmp_path):
    one = training(tmp_path)
    assert one.phase(Phase.TRAIN).summary["parameters"]["copies"] == "one-by-one"
    assert recorded(one) == Copies(how="one-by-one")


@pytest.mark.heavy
def test_the_fastest_way_is_measured_once_and_kept(tmp_path, monkeypatch):
    asked: list[tuple[str, float]] = []
    speeds = {"one-by-one": 1.0, "processes": 80.0}

    def rate(_simulator: Any, _n: int, how: Any, limit_s: float) -> float:
        asked.append((how, round(limit_s, 3)))
        return speeds[how]

    monkeypatch.setattr(vec_mode, "_rate", rate)
    monkeypatch.setattr(vec_mode, "usable_cores", lambda: 2)
    one = training(tmp_path, simulator={"id": "cstr"})
    assert one.phase(Phase.TRAIN).summary["parameters"]["copies"] == "processes"
    assert asked == [("one-by-one", 0.1), ("one-by-one", 1.0), ("processes", 1.0)]
    assert recorded(one) == Copies(how="processes", steps_per_s=dict(speeds))
    speeds["one-by-one"] = 1e6
    assert (
        one.phase(Phase.TRAIN).summary["parameters"]["copies"] == "processes"
    )  # again: as recorded
    assert len(asked) == 3
    given = training(tmp_path / "given", simulator={"id": "cstr"}, copies="vectorised")
    assert given.phase(Phase.TRAIN).summary["parameters"]["copies"] == "vectorised"
    assert recorded(given) is None
    assert len(asked) == 3


class Lucky(Odd):
    """Draws from a generator that all code of a process shares, once an episode."""

    def reset(self, **given: Any) -> Any:
        _, info = super().reset(**given)
        return np.array([np.random.uniform()], np.float32), info


@pytest.mark.heavy
@pytest.mark.parametrize("name", WORLDS)
def test_ways_that_a_measurement_may_choose_among_give_the_same_numbers(name):
    """Bit by bit, over several episodes of each world that comes with drillyard."""
    own = {name for name in names("simulators") if name in WORLDS}
    # Programs have processes of their own already, and an FMU is a file of the user's.
    theirs = {"external", "fmu", "energyplus", "boptest", "opcua"}
    assert own == set(names("simulators")) - theirs
    ways: list[Way] = ["one-by-one", "processes"]
    one, other = (vec_mode.trace(spec(WORLDS[name]), 3, how, 250) for how in ways)
    assert one is not None and one == other


def test_a_world_with_shared_random_numbers_is_stepped_by_the_rule(monkeypatch):
    """Processes would be faster, and would give other numbers."""
    speeds = {"one-by-one": 1.0, "processes": 80.0}
    monkeypatch.setattr(vec_mode, "_rate", lambda *given: speeds[given[2]])
    monkeypatch.setattr(vec_mode, "usable_cores", lambda: 2)
    lucky = vec_mode._fastest(spec({"id": f"{__name__}:Lucky"}), 2, 10_000)
    assert lucky == Copies(how="one-by-one")
    assert vec_mode.trace(spec({"id": f"{__name__}:Lucky"}), 2, "one-by-one", 3) is None
    assert vec_mode.trace(spec({"id": f"{__name__}:Odd"}), 2, "one-by-one", 3) is not None


@pytest.mark.heavy
@pytest.mark.parametrize("world", ["cstr", "CartPole-v1"])
def test_no_speed_changes_what_is_trained(world, tmp_path, monkeypatch):
    """Whatever a loaded machine measures: the same policy from the same file and seed."""
    ways = get_args(Way)
    monkeypatch.setattr(vec_mode, "usable_cores", lambda: 2)
    weights: set[bytes] = set()
    chosen: list[str] = []
    for fast in ways:
        speeds = {how: 80.0 if how == fast else 1.0 for how in ways}
        monkeypatch.setattr(vec_mode, "_rate", lambda *given, s=speeds: s[given[2]])
        one = training(tmp_path / fast, simulator={"id": world}, steps=512, checkpoint_every=128)
        outcome = one.phase(Phase.TRAIN)
        weights.add(one.contents(outcome)["policy_final.safetensors"])
        chosen.append(outcome.summary["parameters"]["copies"])
    assert len(weights) == 1
    assert set(chosen) == {"one-by-one", "processes"}


@pytest.mark.heavy
def test_copies_that_wait_are_faster_side_by_side(monkeypatch):
    """The real measurement: four copies that do nothing but wait, for a long training."""
    monkeypatch.setattr(vec_mode, "MEASURE_S", 1.0)
    monkeypatch.setattr(vec_mode, "COMPARED_STEPS", 3)
    monkeypatch.setattr(vec_mode, "usable_cores", lambda: 2)
    slow = spec({"id": f"{__name__}:Odd", "args": {"pause_s": 0.05}})
    found = vec_mode._fastest(slow, 4, 1_000_000)
    assert found.how == "processes"
    assert set(found.steps_per_s) == {"one-by-one", "processes"}
    assert vec_mode._fastest(slow, 4, 100) == Copies(how="one-by-one")  # not worth a measurement


class Counted(Odd):
    """Counts the copies that are made in a process."""

    made = 0

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        Counted.made += 1


@pytest.mark.heavy
def test_nothing_is_measured_in_the_process_that_forks_the_copies(monkeypatch):
    """Threads that a simulator starts, such as JAX's, would not survive the fork."""
    monkeypatch.setattr(vec_mode, "MEASURE_S", 0.2)
    monkeypatch.setattr(vec_mode, "COMPARED_STEPS", 3)
    monkeypatch.setattr(vec_mode, "usable_cores", lambda: 2)
    Counted.made = 0
    slow = spec({"id": f"{__name__}:Counted", "args": {"pause_s": 0.01}})
    assert set(vec_mode._fastest(slow, 2, 1_000_000).steps_per_s) == {"one-by-one", "processes"}
    assert Counted.made == 0


def test_a_rate_is_that_of_all_copies():
    slow = spec({"id": f"{__name__}:Odd", "args": {"pause_s": 0.01}})
    assert 0 < vec_mode._rate(slow, 2, "one-by-one", 0.05) < 100
    assert json.loads(Copies(how="processes").to_bytes())["how"] == "processes"
