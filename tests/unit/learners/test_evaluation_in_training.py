"""Evaluations while training play their episodes as the final evaluation does."""

import numpy as np
import pytest

from drillyard.errors import RunFailed
from drillyard.learners.evaluator import Evaluator
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.steady_world import Steady


class ThreeSteps(Steady):
    """Each episode has three steps; the reward is the seed of the episode, or not a number."""

    length = 3

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.paid = np.nan if self.broken else float(seed % 1000)
        return super().reset(seed=seed)


class Still:
    """A model whose policy always chooses 0."""

    @property
    def policy(self):
        return self

    def predict(self, observations, state=None, episode_start=None, deterministic=False):
        return np.zeros(len(observations), np.int64), None


class NeverStopped:
    def check(self):
        """Nobody asks for a stop."""


@pytest.fixture
def evaluator(request):
    simulator = SimulatorSpec(id=f"{__name__}:ThreeSteps", args={"broken": request.param})
    made = Evaluator(simulator, {}, 5, 2, True, NeverStopped())
    yield made
    made.close()


@pytest.mark.parametrize("evaluator", [False], indirect=True)
def test_each_evaluation_plays_the_same_episodes(evaluator):
    first, second = evaluator.run(Still(), None), evaluator.run(Still(), None)
    assert first == second
    assert first.lengths == [3] * 5 and len(set(first.returns)) == 5


@pytest.mark.parametrize("evaluator", [True], indirect=True)
def test_a_reward_that_is_not_finite_ends_the_training(evaluator):
    with pytest.raises(RunFailed, match="returned nan as reward, at step 1"):
        evaluator.run(Still(), None)
