"""Making simulators, and the state of copies that are stepped together."""

from __future__ import annotations

import sys
import types
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import ConfigError, CorruptObject, PluginError, SimulatorError
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.vec_state import (
    freeze_normalisation,
    load_normalisation,
    load_vec_state,
    normalisation,
    reseed,
    silent_layers,
    vec_state,
)
from drillyard.spec.learning import SimulatorSpec

LESSON = {"Cref_signal": {"values": [1, 2, 3]}, "noise_percentage": {"min": 0, "max": 20}}


def spec(**values: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate(values)


def walk(venv: Any, steps: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    seen = []
    for _ in range(steps):
        if isinstance(venv.action_space, gym.spaces.Discrete):
            actions: Any = rng.integers(venv.action_space.n, size=venv.num_envs)
        else:
            actions = rng.uniform(-1, 1, (venv.num_envs, 1)).astype(np.float32)
        seen.append(
            repr([np.array(x) if not isinstance(x, dict) else x for x in venv.step(actions)])
        )
    return seen


@pytest.fixture
def mine():
    module = types.ModuleType("drillyard_test_user_module")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


STACKS = [
    {"id": "cstr", "lesson": LESSON},
    {"id": "cstr", "lesson": LESSON, "wrappers": ["normalize"]},
    {
        "id": "cstr",
        "lesson": LESSON,
        "wrappers": [
            {"name": "time_limit", "args": {"max_episode_steps": 17}},
            "normalize",
            {"name": "frame_stack", "args": {"n": 3}},
        ],
    },
    {"id": "simple-adder", "wrappers": ["normalize", {"name": "frame_stack", "args": {"n": 2}}]},
    {"id": "drillyard/Cstr-v0"},
]


@pytest.mark.parametrize("values", STACKS, ids=lambda v: f"{v['id']}-{len(v.get('wrappers', []))}")
def test_a_stack_goes_on_in_mid_episode_as_if_nothing_had_happened(values):
    with_gamma = {"gamma": 0.9}
    one = make_vec(spec(**values), 3, 7, **with_gamma)
    one.reset()
    walk(one, 137, seed=1)
    state, statistics = vec_state(one), normalisation(one)
    assert state is not None
    expected = walk(one, 200, seed=2)

    two = make_vec(spec(**values), 3, 4711, **with_gamma)
    two.reset()
    walk(two, 5, seed=9)
    load_vec_state(two, state)
    if statistics is not None:
        load_normalisation(two, statistics)
    assert walk(two, 200, seed=2) == expected


def test_the_discount_sums_of_the_normalisation_are_part_of_it():
    venv = make_vec(spec(id="cstr", wrappers=["normalize"]), 2, 1, gamma=0.9)
    venv.reset()
    walk(venv, 50, seed=0)
    arrays = normalisation(venv)
    assert np.array_equal(arrays["returns"], venv.returns)
    assert (arrays["returns"] != 0).all()
    assert venv.gamma == 0.9


def test_dict_observations_have_statistics_by_key():
    venv = make_vec(spec(id="simple-adder", wrappers=["normalize"]), 2, 1)
    venv.reset()
    walk(venv, 30, seed=0)
    arrays = normalisation(venv)
    assert arrays["obs_mean.value"] == pytest.approx(venv.obs_rms["value"].mean)
    assert all(a.dtype == np.float64 for a in arrays.values())


def test_evaluation_takes_the_statistics_and_leaves_them_alone():
    training = make_vec(spec(id="cstr", wrappers=["normalize"], lesson=LESSON), 4, 1)
    training.reset()
    walk(training, 50, seed=0)
    arrays = normalisation(training)
    assert arrays is not None
    venv = make_vec(spec(id="cstr", wrappers=["normalize"], lesson=LESSON), 2, 1, training=False)
    load_normalisation(venv, arrays)
    venv.reset()
    _, rewards, _, _ = venv.step(np.zeros((2, 1), np.float32))
    walk(venv, 50, seed=3)
    after = normalisation(venv)
    assert after is not None
    for name in ("obs_mean", "obs_var", "obs_count", "ret_var"):
        assert np.array_equal(after[name], arrays[name])
    assert 0 < rewards[0] <= 1
    freeze_normalisation(training)
    assert not training.training
    assert not training.norm_reward


def test_silent_layers_are_named_and_have_no_state():
    for name, silent in (("CartPole-v1", "CartPoleEnv"), ("Pendulum-v1", "PendulumEnv")):
        venv = make_vec(spec(id=name), 2, 0)
        assert silent_layers(venv) == [silent]
        assert vec_state(venv) is None


def test_reseeding_a_silent_stack_forgets_what_was_before():
    one, two = (make_vec(spec(id="CartPole-v1"), 2, s) for s in (1, 2))
    one.reset()
    walk(one, 33, seed=1)
    assert np.array_equal(reseed(one, 5), reseed(two, 5))
    assert walk(one, 40, seed=2) == walk(two, 40, seed=2)


def test_reseeding_begins_lessons_anew():
    one, two = (make_vec(spec(id="cstr", lesson=LESSON), 2, s) for s in (1, 2))
    one.reset()
    walk(one, 300, seed=1)
    assert np.array_equal(reseed(one, 5), reseed(two, 5))
    assert walk(one, 200, seed=2) == walk(two, 200, seed=2)


def test_copies_play_different_lessons():
    venv = make_vec(spec(id="cstr", lesson={"noise_percentage": {"min": 0, "max": 20}}), 4, 1)
    venv.reset()
    assert len({e.unwrapped._noise for e in venv.envs}) == 4


def test_a_state_of_another_stack_is_refused():
    state = vec_state(make_vec(spec(id="simple-adder"), 2, 0))
    assert state is not None
    with pytest.raises(CorruptObject, match="layers"):
        load_vec_state(make_vec(spec(id="cstr"), 2, 0), state)
    with pytest.raises(CorruptObject, match="2 copies"):
        load_vec_state(make_vec(spec(id="simple-adder"), 3, 0), state)
    with pytest.raises(CorruptObject, match="normalisation"):
        load_normalisation(make_vec(spec(id="cstr"), 1, 0), {})


def test_an_episode_ends_with_its_return_in_the_simulators_own_rewards():
    venv = make_vec(spec(id="simple-adder", wrappers=["normalize"]), 1, 0)
    venv.reset()
    total = 0.0
    for _ in range(10):
        _, _, dones, infos = venv.step(np.array([10]))
        total += float(venv.get_original_reward()[0])
    assert dones[0]
    assert infos[0]["episode"] == {"r": pytest.approx(total), "l": 10}


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"id": "CartPole-v99"}, ConfigError, ["simulator.id", "CartPole-v1"]),
        ({"id": "cstrr"}, ConfigError, ["simulator.id", "'cstr'"]),
        ({"id": "os:system"}, SimulatorError, ["os:system", "builtin_function", "gymnasium.Env"]),
        ({"id": "json:JSONDecoder"}, SimulatorError, ["json.decoder.JSONDecoder"]),
        ({"id": "no_such_module:X"}, PluginError, ["no_such_module", "beside the experiment"]),
        (
            {"id": "cstr", "args": {"coolnt_rule": 1}},
            ConfigError,
            ["args.coolnt_rule", "'coolant_"],
        ),
        ({"id": "CartPole-v1", "args": {"gravty": 3}}, ConfigError, ["simulator.args.gravty"]),
        ({"id": "cstr", "wrappers": ["normalise"]}, ConfigError, ["wrappers[0]", "'normalize'"]),
        ({"id": "cstr", "wrappers": ["normalize", "normalize"]}, ConfigError, ["twice"]),
        ({"id": "cstr", "wrappers": ["normalize", "time_limit"]}, ConfigError, ["last"]),
        (
            {"id": "cstr", "wrappers": [{"name": "normalize", "args": {"clip": 3}}]},
            ConfigError,
            ["normalize.args.clip", "clip_obs"],
        ),
        (
            {"id": "cstr", "wrappers": [{"name": "frame_stack", "args": {"n": 1}}]},
            ConfigError,
            ["frame_stack.args.n"],
        ),
        ({"id": "cstr", "wrappers": ["json:dumps"]}, ConfigError, ["json:dumps"]),
        ({"id": "cstr", "lesson": {"Cref_sig": 1}}, ConfigError, ["Cref_sig", "'Cref_signal'"]),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_what_a_user_mistypes_is_explained(values, error, words):
    with pytest.raises(error) as caught:
        make_vec(spec(**values), 1, 0)
    text = f"{caught.value} {caught.value.hint}"
    for word in words:
        assert word in text


def test_a_constructor_that_raises_is_a_simulator_error(mine):
    class Broken(gym.Env):
        def __init__(self, model: str = "a") -> None:
            raise FileNotFoundError(model)

    mine.Broken = Broken
    with pytest.raises(SimulatorError, match="FileNotFoundError: b"):
        make_env(spec(id=f"{mine.__name__}:Broken", args={"model": "b"}))


def test_wrappers_of_a_user_are_applied_in_order(mine):
    class Add(gym.RewardWrapper):
        def __init__(self, env: gym.Env, amount: float = 1.0) -> None:
            super().__init__(env)
            self.amount = amount

        def reward(self, reward: Any) -> float:
            return float(reward) + self.amount

    class Double(gym.RewardWrapper):
        def reward(self, reward: Any) -> float:
            return 2 * float(reward)

    mine.Add, mine.Double = Add, Double
    name = mine.__name__
    wrappers = [{"name": f"{name}:Add", "args": {"amount": 100}}, f"{name}:Double"]
    env = make_env(spec(id="simple-adder", wrappers=wrappers))
    env.reset(options={"start": 50})
    assert env.step(10)[1] == 200.0
    venv = make_vec(spec(id="simple-adder", wrappers=wrappers), 1, 0)
    assert silent_layers(venv) == ["Double", "Add"]
