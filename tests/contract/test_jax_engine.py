"""``learner.engine: jax`` keeps to the contract of learners. Where JAX is missing: skipped."""

import pytest

from drillyard.spec import ExperimentSpec
from drillyard.testing.learner_suite import LearnerSuite
from tests.contract.test_exact_resume import DISCRETE, DRIFT

pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")
SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}


def experiment(simulator, algorithm, args, steps, **train):
    return ExperimentSpec.model_validate({
        "name": "suite", "simulator": simulator,
        "learner": {"algorithm": algorithm, "engine": "jax", "args": args, "preset": None},
        "train": {"steps": steps, "checkpoint_every": 64, **train}, "evaluate": {"episodes": 2},
        "tracking": {"tensorboard": False}, "seeds": [1],
    })  # fmt: skip


class TestPpo(LearnerSuite):
    @pytest.fixture
    def spec(self):
        args = {**SMALL, "n_steps": 32, "batch_size": 32, "n_epochs": 2}
        return experiment({**DRIFT, "wrappers": ["normalize"]}, "ppo", args, 320)


class TestA2c(LearnerSuite):
    @pytest.fixture
    def spec(self):
        return experiment(DISCRETE, "a2c", {**SMALL, "n_steps": 8}, 320, n_envs=2)
