"""The learner's contract on built-ins: one that learns from rollouts, one from a replay buffer."""

import pytest

from drillyard.spec import ExperimentSpec
from drillyard.testing.learner_suite import LearnerSuite


def experiment(simulator, algorithm, args, steps):
    return ExperimentSpec.model_validate(
        {
            "name": "suite",
            "simulator": {"id": simulator},
            "learner": {"algorithm": algorithm, "args": args, "preset": None},
            "train": {"steps": steps, "checkpoint_every": 64},
            "evaluate": {"episodes": 2},
            "tracking": {"tensorboard": False},
            "seeds": [1],
        }
    )


class TestPpo(LearnerSuite):
    @pytest.fixture
    def spec(self):
        return experiment("simple-adder", "ppo", {"n_steps": 32, "batch_size": 32}, 320)


class TestDqn(LearnerSuite):
    @pytest.fixture
    def spec(self):
        args = {"learning_starts": 32, "buffer_size": 100}
        return experiment("CartPole-v1", "dqn", args, 600)
