"""Random numbers of runs, copies and purposes: none are shared, old experiments keep theirs."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from drillyard.evaluation.episodes import plan
from drillyard.learners.evaluator import _episode_seed
from drillyard.learners.rllib.worlds import World
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import STREAMS, ExperimentRecord, Phase, RunRecord
from drillyard.policies import assess
from drillyard.runs import submit
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.streams import copy_seeds, evaluation_word, lesson_word
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec, Way
from drillyard.spec.simulator.lessons import draw
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.records import experiment_record
from tests.helpers.specs import small
from tests.helpers.steady_world import Steady

CARTPOLE = SimulatorSpec(id="CartPole-v1")
WAYS: list[Way] = ["one-by-one", "processes", "vectorised"]


class Drawing(Steady):
    """Observes what the generators that the whole process shares give."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def look(self) -> np.ndarray:
        return np.array([np.random.random(), random.random(), float(torch.rand(1))])


def experiment(simulator: Any = "CartPole-v1", **more: Any) -> ExperimentSpec:
    learner = {"args": {"n_steps": 32, "batch_size": 32}}
    train = {"steps": 256, "n_envs": 2, "checkpoint_every": 100_000, **more.pop("train", {})}
    return small(simulator, learner=learner, train=train, **more)


def beginnings(seed: int, n: int, how: Way = "one-by-one", streams: int = STREAMS) -> list[bytes]:
    """The first observation of each copy."""
    venv = make_vec(CARTPOLE, n, seed, how=how, streams=streams)
    try:
        return [row.tobytes() for row in venv.reset()]
    finally:
        venv.close()


def test_neighbouring_seeds_share_no_copy_of_the_simulator():
    found = [one for seed in range(1, 6) for one in beginnings(seed, 8)]
    assert len(set(found)) == 40
    # As it was, and still is for experiments that began so: seeds 1 and 2 share seven of eight.
    assert len(set(beginnings(1, 8, streams=1)) & set(beginnings(2, 8, streams=1))) == 7


@pytest.mark.heavy
@pytest.mark.parametrize("streams", [1, 2])
def test_every_way_begins_with_the_same_numbers(streams):
    one, *others = (beginnings(3, 4, how, streams) for how in WAYS)
    assert others == [one, one]


def test_ten_thousand_seeds_copies_and_purposes_share_no_stream():
    """What generators begin with: of trainings, lessons, all kinds of evaluation, `random`."""
    entropies: list[Any] = []
    for seed in range(625):
        for copy, word in enumerate(copy_seeds(seed, 8, STREAMS)):
            entropies += [word, [word, copy, 0, lesson_word(STREAMS)]]
    entropies += [_episode_seed(i) for i in range(500)]
    for again in (False, True):  # the final evaluation, of baselines too, and a confirmation
        for one in plan(experiment(evaluate={"episodes": 500}), again=again):
            entropies += [one.seed, [one.seed, one.episode, 0, evaluation_word(STREAMS)]]
            entropies.append(int(np.random.SeedSequence([one.seed, 1]).generate_state(1)[0]))
    entropies += list(range(625))  # a learner's own: exploration of Stable-Baselines3
    streams = {tuple(np.random.SeedSequence(e).generate_state(4)) for e in entropies}
    assert len(streams) == len(entropies) > 10_000


def test_the_first_draw_of_a_lesson_is_not_the_simulators_own():
    """NumPy takes [1, 0, 0] for 1."""
    lesson = {"disturbance": {"min": 0, "max": 1}}
    drawn = {}
    for streams in (1, 2):
        own = gym.utils.seeding.np_random(11)[0].random()
        drawn[streams] = draw(lesson, 11, 0, 0, lesson_word(streams))["disturbance"] == own
    assert drawn == {1: True, 2: False}


@pytest.mark.parametrize("again", [False, True], ids=["final", "confirmation"])
def test_the_lesson_of_an_evaluated_episode_is_not_the_simulators_own(again):
    """Of no episode; of the first one, NumPy takes [seed, 0] for seed."""
    spec = experiment(evaluate={"episodes": 3, "lesson": {"noise": {"min": 0, "max": 1}}})
    shared = {}
    for streams in (2, STREAMS):
        planned = plan(spec, again=again, streams=streams)
        own = [gym.utils.seeding.np_random(one.seed)[0].random() for one in planned]
        shared[streams] = [
            one.options["noise"] == number for one, number in zip(planned, own, strict=True)
        ]
    assert shared == {2: [True, False, False], STREAMS: [False, False, False]}


def test_the_lesson_of_an_assessed_episode_is_not_the_simulators_own():
    planned = assess.plan({"noise": {"min": 0, "max": 1}}, 3, 5)
    own = [gym.utils.seeding.np_random(one.seed)[0].random() for one in planned]
    assert not {one.options["noise"] for one in planned} & set(own)


@pytest.mark.heavy
def test_copies_in_processes_do_not_draw_the_same_global_numbers():
    found = []
    for _ in range(2):
        venv = make_vec(SimulatorSpec(id=f"{__name__}:Drawing"), 3, 5, how="processes", streams=2)
        try:
            begun = venv.reset()
            stepped = venv.step(np.zeros(3, np.int64))[0]
        finally:
            venv.close()
        for column in range(3):
            assert len({*begun[:, column], *stepped[:, column]}) == 6
        found.append((begun.tobytes(), stepped.tobytes()))
    assert found[0] == found[1]  # and each seed gives its own, whatever was drawn before


def test_workers_of_ray_share_no_numbers():
    class Place:
        def __init__(self, worker_index: int) -> None:
            self.worker_index = worker_index

    world = World(CARTPOLE, 1, 2, [], STREAMS)
    found = []
    for worker in (1, 2, 1):  # the last ones replace the first ones
        for copy in range(2):
            env = world(Place(worker))
            found.append(env.reset(seed=1 + worker + copy)[0].tobytes())
            env.close()
    assert len(set(found)) == 6


@pytest.mark.heavy
@pytest.mark.parametrize("how", WAYS)
def test_a_training_is_that_of_plain_stable_baselines3_with_matching_seeds(tmp_path, how):
    from safetensors.torch import load
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    spec = experiment(
        simulator={"id": "cstr"},
        seeds=[7],
        train={"copies": how},
    )
    assert spec.simulator is not None
    world = spec.simulator
    one = OneRun(tmp_path, spec, RlWorkload())
    outcome = one.phase(Phase.TRAIN)
    ours = load(one.contents(outcome)["policy_final.safetensors"])
    venv = DummyVecEnv([lambda c=c: make_env(world, copy=c) for c in range(2)])
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=32, seed=7, device="cpu")
    venv._seeds = list(copy_seeds(7, 2, STREAMS))
    model.learn(256)
    theirs = model.policy.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_an_experiment_keeps_its_version_also_for_seeds_that_are_added(tmp_path):
    """Its record says how it began; one of before says nothing."""
    for name, before, expected in (("old", 1, 1), ("new", STREAMS, STREAMS)):
        spec = experiment(name=name, seeds=[1, 2])
        mailbox = Mailbox(open_store(str(tmp_path)), name)
        record = experiment_record(name, spec=spec.model_dump(mode="json"), streams=before)
        mailbox.write("experiment.json", record)
        submit.post(spec, mailbox, [submit.Trial(1, (1, 2, 3))], lambda: None)
        assert {mailbox.run(f"t0001-s{seed}").streams for seed in (1, 2, 3)} == {expected}
    old = b'{"name": "x", "spec": {}, "identity": "", "created_at": 0}'
    assert ExperimentRecord.from_bytes(old).streams == 1
    old = b'{"run": "t0001-s1", "experiment": "x", "seed": 1}'
    assert RunRecord.from_bytes(old).streams == 1
