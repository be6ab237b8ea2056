"""Baselines: a scale that does not move."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from drillyard.agents.baselines import Hold, PController, Random, make_baseline
from drillyard.errors import PluginError, SpaceMismatch
from drillyard.evaluation.episodes import plan, run_baseline
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.specs import small


class World(gym.Env):
    def __init__(self, space: spaces.Space) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,))
        self.action_space = space


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(-1, 1, (2,)), [0, 0]),
        (spaces.Box(np.float32([0, 10]), np.float32([4, 20])), [2, 15]),
        (spaces.Box(-np.inf, np.inf, (1,)), [0]),
        (spaces.Box(np.float32([3]), np.float32([np.inf])), [3]),
        (spaces.Discrete(4), 0),
        (spaces.Discrete(4, start=2), 2),
        (spaces.MultiDiscrete([3, 3]), [0, 0]),
    ],
)
def test_hold_is_the_middle_or_the_first(space, expected):
    action = Hold(World(space)).act(None)
    assert np.array_equal(action, expected)
    assert space.contains(action)


def test_a_simulator_says_itself_what_holding_is():
    world = World(spaces.Discrete(5))
    world.hold_action = 3  # type: ignore[attr-defined]
    assert Hold(world).act(None) == 3


def test_random_is_seeded_and_leaves_the_simulators_own_generator_alone():
    world = World(spaces.Box(-1, 1, (3,)))
    world.action_space.seed(1)
    first = world.action_space.sample()
    world.action_space.seed(1)
    baseline = Random(world)
    baseline.reset(7, {})
    one = [baseline.act(None) for _ in range(20)]
    assert np.array_equal(world.action_space.sample(), first)
    baseline.reset(7, {})
    assert np.array_equal([baseline.act(None) for _ in range(20)], one)
    baseline.reset(8, {})
    assert not np.array_equal(baseline.act(None), one[0])


def test_the_p_controller_knows_the_reactor_only():
    with pytest.raises(SpaceMismatch, match="reactor"):
        make_baseline("p-controller", make_env(SimulatorSpec(id="Pendulum-v1")))
    with pytest.raises(PluginError) as caught:
        make_baseline("p-control", make_env(SimulatorSpec(id="cstr")))
    assert "p-controller" in str(caught.value.hint)


def test_the_p_controller_moves_the_right_way():
    controller = PController(make_env(SimulatorSpec(id="cstr")))

    def act(tr: float, cref: float, tc: float) -> float:
        seen = np.array([tr / 600, 0.5, cref / 10, tc / 600], np.float32)
        return float(controller.act(seen)[0])

    for cref, tr, tc in ((8.5698, 311.26, 297.98), (2.0, 373.13, 305.04)):
        # The two steady states that the reference joins, as the older system's tables have them.
        assert act(tr, cref, tc) == pytest.approx(0, abs=0.02)
        assert act(tr - 1, cref, tc) > 0.1  # too cold: heat
        assert act(tr + 1, cref, tc) < -0.1
        assert act(tr - 9, cref, tc) == 1.0
    assert np.isfinite([act(300.0, cref, 300.0) for cref in (-1.0, 0.0, 10.0, 12.0)]).all()


@pytest.mark.heavy
def test_the_figures_in_the_docs_are_what_baselines_reach_on_the_reactor():
    lesson = {"Cref_signal": {"values": [1, 2, 3, 4]}}
    spec = small({"lesson": lesson}, evaluate={"episodes": 40})
    assert spec.simulator is not None
    means = {
        name: np.mean(
            [e.episode_return for e in run_baseline(name, spec.simulator, plan(spec)).episodes]
        )
        for name in ("hold", "random", "p-controller")
    }
    assert means["hold"] == pytest.approx(26.8, abs=0.1)
    assert means["random"] == pytest.approx(24, abs=3)
    assert means["p-controller"] == pytest.approx(85.8, abs=0.1)
