"""A vectorised class with other numbers than its single form is found."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import numpy as np
import pytest

from drillyard.errors import SimulatorError
from drillyard.findings import Severity
from drillyard.simulators import far_outside
from drillyard.simulators.adder_vector import VecAdder
from drillyard.simulators.check import check_simulator
from drillyard.simulators.far_outside import FarOutside
from drillyard.simulators.horizon import horizon
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.same_copies import must_agree
from drillyard.simulators.simple_adder import SimpleAdderEnv
from drillyard.simulators.stress_test import try_limits
from drillyard.spec.learning import SimulatorSpec


class OtherRewards(VecAdder):
    """Pays a little more than one copy does."""

    def step(self, actions: np.ndarray) -> Any:
        rewards, terminated, truncated = super().step(actions)
        return rewards + 0.5, terminated, truncated


class OtherBeginning(VecAdder):
    """Shows something else."""

    def observe(self) -> Any:
        return {key: part * 0.5 + 0.1 for key, part in super().observe().items()}


class PaysMore(SimpleAdderEnv):
    vectorised = OtherRewards


class BeginsElsewhere(SimpleAdderEnv):
    vectorised = OtherBeginning


@pytest.mark.heavy
@pytest.mark.parametrize("id_", ["cstr", "simple-adder", "building", "CartPole-v1"])
def test_our_own_vectorised_forms_agree(id_):
    assert "agree" in must_agree(SimulatorSpec(id=id_))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("PaysMore", "the reward of copy 0"),
        ("BeginsElsewhere", "the first observation .* of copy 0"),
    ],
)
def test_another_form_is_refused_with_step_and_both_values(kind, said):
    with pytest.raises(SimulatorError, match=said) as caught:
        must_agree(SimulatorSpec(id=f"{__name__}:{kind}"))
    assert "at once and" in caught.value.message
    assert "train.copies: one-by-one" in str(caught.value.hint)


def test_observations_far_outside_their_space_are_warned_of_once(caplog, monkeypatch):
    monkeypatch.setattr(far_outside, "_warned", set())
    spec = SimulatorSpec(id="tests.helpers.odd_worlds:World", args={"fault": "far", "at": 1000})
    env = make_env(spec)
    with caplog.at_level(logging.WARNING):
        env.reset(seed=1)
        for _ in range(300):
            env.step(0)
    (warned,) = (r.getMessage() for r in caplog.records if "far outside" in r.getMessage())
    assert warned.startswith("World: the observation has the value ")


def test_a_little_outside_is_not_far():
    env = make_env(SimulatorSpec(id="CartPole-v1"))
    look = FarOutside(env.observation_space, "CartPole")
    look.look(np.full(4, 1e6, np.float32))  # without bounds in two of four: nothing to compare
    assert "CartPole" not in far_outside._warned


@pytest.mark.parametrize("look", [partial(check_simulator, speed=False), try_limits])
@pytest.mark.parametrize(("fault", "refused"), [("near", False), ("far", True)])
def test_a_check_warns_of_what_is_a_little_outside_and_refuses_what_is_far(look, fault, refused):
    """A run trains on values a little outside: Gymnasium's own lander turns beyond its space."""
    args = {"fault": fault, "at": 20}
    found = look(SimulatorSpec(id="tests.helpers.odd_worlds:World", args=args))
    wrong = [f for f in found if "outside" in f.message and f.severity is not Severity.OK]
    assert {f.severity for f in wrong} == {Severity.ERROR if refused else Severity.WARNING}
    assert all(f.fix for f in wrong)
    if not refused:
        (said,) = {f.message for f in wrong}
        assert "is a little outside" in said and "step 20" in said


@pytest.mark.heavy
@pytest.mark.parametrize("way", ["one-by-one", "vectorised", "processes"])
def test_the_longest_episode_is_known_in_each_way(way):
    """The steps between two barriers depend on it, and with them the numbers of a training."""
    venv = make_vec(SimulatorSpec(id="CartPole-v1"), 2, 1, how=way)
    assert horizon(venv) == 500
    venv.close()
