"""Nested and shifted spaces in the form that learners take; flat ones stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from drillyard.errors import SpaceMismatch
from drillyard.simulators.flat_spaces import FlattenSpaces, flattened, needs_flattening
from drillyard.simulators.make import make_env
from drillyard.simulators.wrappers import layers
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.odd_worlds import ACTIONS, OBSERVATIONS, World

FLAT = ("flat", "discrete", "multidiscrete", "multibinary", "dict", "image-7", "float64")
NESTED = ("tuple", "dict-nested", "dict-of-tuple", "dict-with-dots", "multibinary-2d")
SHIFTED = ("discrete-from-3", "discrete-from-minus-2", "multidiscrete-from-1", "multidiscrete-2d")
REFUSED = ("text", "sequence", "graph", "oneof", "empty", "dict-empty", "dict-with-text")


@pytest.mark.parametrize("name", FLAT)
def test_flat_spaces_get_no_wrapper(name):
    """So nothing changes in experiments that work without it."""
    world = World(observation=name)
    assert flattened(world) is world


@pytest.mark.parametrize("name", [*NESTED, *SHIFTED])
def test_each_observation_is_inside_the_flat_space_and_keeps_its_numbers(name):
    world = World(observation=name)
    flat = FlattenSpaces(world)
    flat.observation_space.seed(1)
    for seed in range(20):
        world.observation_space.seed(seed)
        before = world.observation_space.sample()
        world.observation_space.seed(seed)
        seen, _ = flat.reset()
        assert flat.observation_space.contains(seen)
        assert _numbers(seen, 0) == pytest.approx(_numbers(before, _start(name)))
    kinds = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    inner = flat.observation_space
    parts = inner.spaces.values() if isinstance(inner, spaces.Dict) else [inner]
    assert all(isinstance(part, kinds) for part in parts)


def _start(name: str) -> int:
    return {"discrete-from-3": 3, "discrete-from-minus-2": -2, "multidiscrete-from-1": 1}.get(
        name, 0
    )


def _numbers(value: object, start: int) -> list[float]:
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in _numbers(value[key], start)]
    if isinstance(value, tuple):
        return [n for part in value for n in _numbers(part, start)]
    return [float(n) - start for n in np.asarray(value).ravel()]


@pytest.mark.parametrize(
    "name", ["discrete-from-2", "multidiscrete-2d", "multibinary-2d", "discrete"]
)
def test_the_simulator_is_given_actions_of_its_own_space(name):
    world = World(action=name)
    env = flattened(world)
    env.reset(seed=1)
    seen = []
    step = world.step
    world.step = lambda action: (seen.append(action), step(action))[1]  # type: ignore[method-assign]
    env.action_space.seed(1)
    for _ in range(30):
        env.step(env.action_space.sample())
    assert all(ACTIONS[name].contains(action) for action in seen)


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_learner_takes_is_refused_with_a_fix(name):
    with pytest.raises(SpaceMismatch) as caught:
        needs_flattening(World(observation=name))
    assert caught.value.hint


def test_the_part_that_is_refused_is_left_out_by_the_line_of_the_hint():
    with pytest.raises(SpaceMismatch) as caught:
        needs_flattening(World(observation="dict-with-text"))
    assert "FilterObservation" in str(caught.value.hint)
    spec = SimulatorSpec.model_validate(
        {
            "id": "tests.helpers.odd_worlds:World",
            "args": {"observation": "dict-with-text"},
            "wrappers": [
                {"name": "gymnasium.wrappers:FilterObservation", "args": {"filter_keys": ["seen"]}}
            ],
        }
    )
    env = make_env(spec)
    assert list(env.observation_space) == ["seen"]  # type: ignore[call-overload]
    assert not any(isinstance(layer, FlattenSpaces) for layer in layers(env))


def test_keys_with_dots_are_renamed_and_may_not_collide():
    with pytest.raises(SpaceMismatch, match="both called 'a/b'"):
        needs_flattening(
            _Space(spaces.Dict({"a/b": OBSERVATIONS["flat"], "a": OBSERVATIONS["dict"]}))
        )


class _Space(World):
    def __init__(self, space: spaces.Space[object]) -> None:
        super().__init__()
        self.observation_space = space
