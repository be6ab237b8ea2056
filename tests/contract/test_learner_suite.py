"""The learner's contract on built-ins: one that learns from rollouts, one from a replay buffer."""

import pytest

from drillyard.testing.learner_suite import LearnerSuite
from tests.helpers.specs import small


def experiment(simulator, algorithm, args, steps):
    learner = {"algorithm": algorithm, "args": args}
    return small(simulator, learner=learner, train={"steps": steps, "checkpoint_every": 64})


class TestPpo(LearnerSuite):
    @pytest.fixture
    def spec(self):
        return experiment("simple-adder", "ppo", {"n_steps": 32, "batch_size": 32}, 320)


class TestDqn(LearnerSuite):
    @pytest.fixture
    def spec(self):
        args = {"learning_starts": 32, "buffer_size": 100}
        return experiment("CartPole-v1", "dqn", args, 600)
