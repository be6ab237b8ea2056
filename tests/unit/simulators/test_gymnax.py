"""Worlds of gymnax as simulators."""

from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import ConfigError
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec

pytestmark = pytest.mark.heavy
WITH = pytest.mark.skipif(find_spec("gymnax") is None, reason="extra `gymnax`")


@pytest.mark.skipif(find_spec("gymnax") is not None, reason="gymnax is installed")
def test_without_gymnax_the_line_that_installs_it_is_shown():
    with pytest.raises(ConfigError, match="gymnax, which is not installed") as caught:
        make_env(SimulatorSpec(id="gymnax/CartPole-v1"))
    assert "drillyard[gymnax]" in str(caught.value.hint)
    assert caught.value.field == "simulator.id"


@WITH
def test_one_copy_takes_the_steps_of_gymnasium():
    env, other = make_env(SimulatorSpec(id="gymnax/CartPole-v1")), gym.make("CartPole-v1")
    seen, _ = env.reset(seed=3)
    other.reset(seed=3)
    other.unwrapped.state = np.array(seen, np.float64)
    for step in range(30):
        ours, theirs = env.step(step % 2), other.step(step % 2)
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
        assert ours[1:4] == theirs[1:4]
        if ours[2]:
            break
        if step == 5:
            saved = env.unwrapped.state()
    env.unwrapped.load_state(saved)
    again = [env.step(step % 2)[0] for step in range(6, 9)]
    env.unwrapped.load_state(saved)
    assert np.array_equal(again, [env.step(step % 2)[0] for step in range(6, 9)])


@WITH
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Catch-bsuite"])
def test_copies_are_stepped_together(name):
    lesson = {"gravity": {"values": [5.0, 9.8]}} if name == "CartPole-v1" else {}
    spec = SimulatorSpec(id=f"gymnax/{name}", lesson=lesson)
    venv = make_vec(spec, 3, 1, how="compiled", streams=2)
    seen = venv.reset()
    ends = 0
    for _ in range(60):
        venv.action_space.seed(1)
        actions = np.array([venv.action_space.sample() for _ in range(3)])
        seen, rewards, dones, infos = venv.step(actions)
        assert np.isfinite(seen).all() and np.isfinite(rewards).all()
        ends += int(dones.sum())
        for copy in np.flatnonzero(dones):
            assert infos[copy]["episode"]["l"] > 0
            assert not lesson or infos[copy]["lesson"]["gravity"] in (5.0, 9.8)
    assert ends or name == "Pendulum-v1"
