"""The adapter for gymnax, with a world of our own in gymnax's style: no package is needed.

gymnax asks for Gymnasium below 1.4, so that it is not installed beside the locked packages, and
``test_gymnax.py`` is skipped there. The stand-in has what the adapter uses, as in gymnax 1.0.1:
``make``, ``registered_envs``, ``reset_env``, ``step_env``, ``is_truncated``, parameters with
``replace``, and spaces. Source: ``gymnax/environments/environment.py`` and ``registration.py``.
"""

import dataclasses
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import ConfigError, DrillyardError
from drillyard.learners import vec_mode
from drillyard.simulators.functional import gymnax_worlds
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec

jax = pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")

pytestmark = pytest.mark.heavy


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    inflow: float = 0.5
    max_steps_in_episode: int = 6
    sealed: bool = True

    def replace(self, **values):
        return dataclasses.replace(self, **values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    level: jax.Array
    time: jax.Array


class Tank:
    """A level that rises with the inflow, and falls where the valve is open; it may overflow."""

    def __init__(self, high=2.0):
        self.high = high

    def observation_space(self, params):
        return gym.spaces.Box(-10.0, 10.0, (2,), np.float32)

    def action_space(self, params):
        return gym.spaces.Discrete(2)

    def reset_env(self, key, params):
        state = State(jax.random.uniform(key, (), minval=0.0, maxval=0.1), jax.numpy.int32(0))
        return self._seen(state), state

    def step_env(self, key, state, action, params):
        level = state.level + params.inflow * (1 - action)
        new = State(level, state.time + 1)
        return self._seen(new), new, -jax.numpy.abs(level - 1), level > self.high, {"level": level}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def _seen(self, state):
        return jax.numpy.stack([state.level, state.time.astype(state.level.dtype)])


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    whole, parts = ModuleType("gymnax"), ModuleType("gymnax.environments")
    spaces = ModuleType("gymnax.environments.spaces")
    whole.__spec__ = ModuleSpec("gymnax", None)
    whole.registered_envs = ["Tank-v1"]
    whole.make = lambda name, **args: (Tank(**args), Params())
    whole.environments, parts.spaces = parts, spaces
    spaces.gymnax_space_to_gym_space = lambda space: space
    for module in (whole, parts, spaces):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    gymnax_worlds.gymnax_class.cache_clear()
    yield
    gymnax_worlds.gymnax_class.cache_clear()


def test_a_world_that_it_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="no such environment") as caught:
        make_env(SimulatorSpec(id="gymnax/Tank-v2"))
    assert "gymnax/Tank-v1" in str(caught.value.allowed) and "Tank-v1" in caught.value.hint


def test_steps_ends_and_state_are_those_of_the_world():
    env = make_env(SimulatorSpec(id="gymnax/Tank-v1", args={"high": 1.8}))
    (level, time), _ = env.reset(seed=3)
    assert 0 <= level <= 0.1 and time == 0
    for step in range(1, 4):
        seen, reward, terminated, truncated, info = env.step(0)
        level += 0.5
        np.testing.assert_allclose(seen, [level, step], rtol=1e-6)
        assert reward == pytest.approx(-abs(level - 1), abs=1e-6)
        assert info["state_level"] == pytest.approx(level, rel=1e-6)
        assert (terminated, truncated) == (False, False)
    saved = env.unwrapped.state()
    assert env.step(0)[2:4] == (True, False)  # it overflows
    env.unwrapped.load_state(saved)
    for step in range(4, 7):
        seen, *_, terminated, truncated, _ = env.step(1)
        assert seen[1] == step and not terminated
    assert truncated  # the time is over


def test_numbers_are_reset_keys_and_nothing_else_is():
    env = make_env(SimulatorSpec(id="gymnax/Tank-v1"))
    assert set(env.unwrapped.reset_keys) == {"inflow", "max_steps_in_episode"}
    env.reset(seed=1, options={"inflow": 0.25, "max_steps_in_episode": 2})
    assert env.step(0)[3] is False and env.step(0)[3] is True
    with pytest.raises(DrillyardError, match="sealed"):
        env.reset(seed=1, options={"sealed": 0})


def test_copies_are_stepped_together_with_what_the_lesson_draws():
    lesson = {"inflow": {"values": [0.5, 1.0]}}
    spec = SimulatorSpec(id="gymnax/Tank-v1", lesson=lesson)
    venv = make_vec(spec, 3, 1, how="compiled", streams=2)
    before, drawn = venv.reset(), set()
    for _ in range(12):
        seen, rewards, dones, infos = venv.step(np.zeros(3, np.int64))
        for copy in range(3):
            if not dones[copy]:
                risen = float(seen[copy, 0] - before[copy, 0])
                assert risen == pytest.approx(0.5, abs=1e-5) or risen == pytest.approx(1, abs=1e-5)
                assert rewards[copy] == pytest.approx(-abs(seen[copy, 0] - 1), abs=1e-5)
                continue
            info = infos[copy]
            drawn.add(info["lesson"]["inflow"])
            assert not info["TimeLimit.truncated"] and info["terminal_observation"][0] > 2
            assert seen[copy, 1] == 0  # the next episode has begun
        before = seen
    assert drawn == {0.5, 1.0}


def test_its_copies_are_not_measured_in_processes():
    # A fork after JAX has begun its threads may never return.
    assert vec_mode._fastest(SimulatorSpec(id="gymnax/Tank-v1"), 2, 10**9).how == "one-by-one"
