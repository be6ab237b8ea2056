"""The smallest world."""

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import ConfigError, SimulatorError
from drillyard.simulators import register_gymnasium
from drillyard.simulators.simple_adder import SimpleAdderEnv


def test_ten_additions_towards_50():
    env = SimpleAdderEnv()
    observation, _ = env.reset(seed=0, options={"start": 20})
    assert observation["value"].tolist() == [20.0]
    seen = [env.step(a) for a in (20, 20, 20, 10, 0, 20, 10, 10, 10, 10)]
    assert [float(s[0]["value"][0]) for s in seen[:6]] == [30, 40, 50, 50, 40, 50]
    assert [s[1] for s in seen[:5]] == [-20, -10, 0, 0, -10]
    assert [s[3] for s in seen] == [False] * 9 + [True]
    assert not any(s[2] for s in seen)


def test_box_actions_mean_the_same_addends():
    env = SimpleAdderEnv(actions="box")
    env.reset(seed=0, options={"start": 0})
    values = [env.step(np.array([a], np.float32))[4]["state_addend"] for a in (1, -1, 0.26, 5)]
    assert values == [10, -10, 3, 10]


def test_starts_are_drawn_from_0_to_100_by_seed():
    env = SimpleAdderEnv()
    starts = [float(env.reset(seed=s)[0]["value"][0]) for s in range(300)]
    assert min(starts) < 5
    assert max(starts) > 95
    assert all(s == int(s) and 0 <= s <= 100 for s in starts)
    assert starts == [float(env.reset(seed=s)[0]["value"][0]) for s in range(300)]


def test_state_goes_on():
    one, two = SimpleAdderEnv(), SimpleAdderEnv()
    one.reset(seed=5)
    one.step(3)
    two.reset(seed=77)
    two.load_state(one.state())
    a, b = one.step(4), two.step(4)
    assert a == b
    assert one.reset() == two.reset()


def test_observations_stay_inside_their_space():
    for start, action in ((0, 0), (100, 20)):
        env = SimpleAdderEnv()
        env.reset(options={"start": start})
        for _ in range(10):
            observation = env.step(action)[0]
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    "options", [{"begin": 1}, {"start": 101}, {"start": "x"}, {"start": True}]
)
def test_wrong_reset_keys_are_refused(options):
    with pytest.raises(SimulatorError):
        SimpleAdderEnv().reset(options=options)


def test_a_wrong_form_is_refused():
    with pytest.raises(ConfigError, match="discrete, box"):
        SimpleAdderEnv(actions="dict")  # type: ignore[arg-type]


def test_gymnasium_knows_it_and_finds_no_fault():
    from gymnasium.utils.env_checker import check_env

    register_gymnasium()
    check_env(gym.make("drillyard/SimpleAdder-v0").unwrapped, skip_render_check=True)
