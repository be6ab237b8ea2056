"""The contract of a simulator, as tests.

Use it from a plug-in's tests::

    from drillyard.testing.simulator_suite import SimulatorSuite

    class TestMyWorld(SimulatorSuite):
        @pytest.fixture
        def make(self):
            return lambda: MyWorld(size=3)

Simulators without ``state()``/``load_state()`` pass too: the tests of state are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from drillyard.findings import Severity
from drillyard.simulators.check import check_env_contract
from drillyard.simulators.random_actions import random_action
from drillyard.simulators.state import State
from drillyard.simulators.wrappers import Env, layer_state, layers, load_layer_state

Make = Callable[[], Env]
STEPS = 300


def steps(env: Env, n: int, seed: int) -> list[tuple[object, ...]]:
    """Random steps, with resets where episodes end; the results of all calls."""
    env.action_space.seed(seed)
    results: list[tuple[object, ...]] = []
    for _ in range(n):
        result = env.step(random_action(env))
        results.append(result)
        if result[2] or result[3]:
            results.append(env.reset())
    return results


def same(a: object, b: object) -> bool:
    """Equal to the last bit, through tuples, lists, dicts and arrays."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def save(env: Env) -> list[State] | None:
    """The state of every layer, None if one has no state."""
    states = [layer_state(layer) for layer in layers(env)]
    kept = [state for state in states if state is not None]
    return kept if len(kept) == len(states) else None


def load(env: Env, states: list[State]) -> None:
    """Put every layer into its saved state."""
    for layer, state in zip(layers(env), states, strict=True):
        load_layer_state(layer, state)


class SimulatorSuite:
    """Inherit, and supply the fixture ``make``: a function that makes a fresh simulator."""

    def test_no_check_finds_an_error(self, make: Make) -> None:
        """The checks of ``drillyard check``."""
        findings = check_env_contract(make())
        bad = [f"{f.subject}: {f.message}" for f in findings if f.severity is not Severity.OK]
        assert not bad, "\n".join(bad)

    def test_the_same_seed_gives_the_same_steps_in_another_copy(self, make: Make) -> None:
        """Only the seed of a reset matters; global generators do not."""
        simulator, two = make(), make()
        assert same(simulator.reset(seed=5), two.reset(seed=5))
        np.random.seed(1)
        first = steps(simulator, STEPS, seed=1)
        np.random.seed(2)
        assert same(first, steps(two, STEPS, seed=1))

    def test_observations_are_not_overwritten_by_later_steps(self, make: Make) -> None:
        """A learner keeps references to observations."""
        env = make()
        first, _ = env.reset(seed=1)
        kept = json.dumps(first, default=lambda a: np.asarray(a).tolist())
        steps(env, 20, seed=1)
        assert json.dumps(first, default=lambda a: np.asarray(a).tolist()) == kept

    def test_two_copies_do_not_share_anything(self, make: Make) -> None:
        """Copies are stepped in turn in one process."""
        alone = make()
        alone.reset(seed=5)
        expected = steps(alone, 50, seed=1)
        first, two = make(), make()
        first.reset(seed=5)
        two.reset(seed=6)
        steps(two, 50, seed=2)
        assert same(steps(first, 50, seed=1), expected)

    def test_a_state_goes_on_as_if_nothing_had_happened(self, make: Make) -> None:
        """Saved in mid-episode, loaded into a new copy with another seed."""
        first, two = make(), make()
        first.reset(seed=5)
        state = save(first)
        if state is None:
            pytest.skip("no state() and load_state(): reset at checkpoints instead")
        for n in (1, 7, 40):
            steps(first, n, seed=n)
            state = save(first)
            assert state is not None
            expected = steps(first, STEPS, seed=3)
            two.reset(seed=99)
            load(two, state)
            assert same(steps(two, STEPS, seed=3), expected)
            load(first, state)

    def test_a_state_is_json_and_arrays(self, make: Make) -> None:
        """It goes into a checkpoint without a pickle."""
        env = make()
        env.reset(seed=5)
        state = save(env)
        if state is None:
            pytest.skip("no state() and load_state()")
        text = json.dumps(state, default=lambda a: a.tolist() if isinstance(a, np.ndarray) else 1j)
        assert json.loads(text) is not None

    def test_declared_reset_keys_are_taken_and_others_refused(self, make: Make) -> None:
        """Where ``reset_keys`` is declared, lessons are checked against it."""
        env = make()
        if getattr(env, "reset_keys", None) is None:
            pytest.skip("no reset_keys")
        env.reset(seed=1, options={})
        with pytest.raises(Exception, match="no_such_key"):
            env.reset(options={"no_such_key": 1})

    def test_rewards_are_finite_numbers(self, make: Make) -> None:
        """Rewards are finite numbers and not arrays."""
        env = make()
        env.reset(seed=1)
        rewards = [np.asarray(s[1]) for s in steps(env, STEPS, seed=1) if len(s) == 5]
        assert all(reward.ndim == 0 and np.isfinite(reward) for reward in rewards)
