"""``learner.engine: sbx`` keeps to the contract of learners. Where SBX is missing: skipped."""

import inspect

import numpy as np
import pytest

from drillyard.learners.sb3_build import build, describe
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.algorithms import engines
from drillyard.spec.algorithms.argument_table import ARGUMENTS, ignored
from drillyard.spec.algorithms.signatures import ACTION_SPACES, ON_POLICY
from drillyard.spec.learning import SimulatorSpec
from drillyard.testing.learner_suite import LearnerSuite
from tests.helpers.resume_cases import DISCRETE, DRIFT, case
from tests.helpers.resumed import box, ended_alike, resumed, summary, train
from tests.helpers.specs import small
from tests.unit.learners.test_sb3_arguments import OTHER_VALUES

pytest.importorskip("sbx", reason="extra `sbx`: pip install 'drillyard[sbx]'")
ALGORITHMS = list(engines.NETWORKS[engines.SBX])
SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}
OFF_POLICY = {**SMALL, "learning_starts": 40, "batch_size": 16, "buffer_size": 300}


class TestSac(LearnerSuite):
    @pytest.fixture
    def spec(self):
        learner = {"algorithm": "sac", "engine": "sbx", "args": OFF_POLICY}
        train = {"steps": 300, "checkpoint_every": 64}
        return small({**DRIFT, "wrappers": ["normalize"]}, learner=learner, train=train)


def case_of(algorithm):
    args = (
        OFF_POLICY
        if algorithm not in ON_POLICY
        else {**SMALL, "n_steps": 32, "batch_size": 16, "n_epochs": 2, "learning_rate": "lin_1e-3"}
    )
    one = case(DISCRETE if algorithm == "dqn" else DRIFT, algorithm, args, ["normalize"], n_envs=2)
    one["learner"]["engine"] = "sbx"
    return one


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_killed_run_ends_as_one_that_was_left_alone(algorithm, processes, tmp_path):
    one = case_of(algorithm)
    assert train(processes, tmp_path / "a", one, 1) == 0
    b = resumed(processes, tmp_path / "b", one, 190)
    assert summary(b)["exactness"] == "exact"
    ended_alike(b, box(tmp_path / "a"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_table_is_the_installed_signature(algorithm):
    from drillyard.learners.sbx import CLASSES

    has = inspect.signature(CLASSES[algorithm].__init__).parameters
    lacks = {n for n in ARGUMENTS[algorithm] if n not in has}
    unused = {"use_sde", "sde_sample_freq", "use_sde_at_warmup", "clip_range_vf", "target_kl"}
    unused |= {"optimize_memory_usage"} if algorithm == "dqn" else set()
    assert lacks <= set(ignored(engines.SBX, algorithm)) <= lacks | unused


def model_of(algorithm, args):
    discrete = ACTION_SPACES[algorithm] == ("Discrete",)
    world = SimulatorSpec(id="CartPole-v1" if discrete else "Pendulum-v1")
    venv = make_vec(world, 1, 0)
    try:
        return build(algorithm, None, args, venv, 1, "cpu", "sbx")
    finally:
        venv.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_told_is_what_the_built_model_has(algorithm):
    special = {
        "policy_kwargs",
        "train_freq",
        "action_noise",
        "replay_buffer_kwargs",
        "optimize_memory_usage",
        "target_update_interval",
    }
    given = {
        name: (not ARGUMENTS[algorithm][name])
        if OTHER_VALUES[name] is None
        else OTHER_VALUES[name]
        for name in engines.taken(algorithm)
        if name not in special
    } | {"policy_kwargs": {"net_arch": [12, 12], "activation_fn": "elu"}}
    if "buffer_size" in given:
        given["n_steps"] = 2
    found = describe(algorithm, model_of(algorithm, given))
    told = {name: found.get(name) for name in given if name != "policy_kwargs"}
    assert told == {name: v for name, v in given.items() if name != "policy_kwargs"}
    assert (found["net_arch"], found["activation_fn"]) == ([12, 12], "elu")
    assert found["n_parameters"] > 0 and found["engine"] == "sbx"


def test_a_silent_file_means_the_same_with_both_engines():
    for algorithm in ALGORITHMS:
        discrete = ACTION_SPACES[algorithm] == ("Discrete",)
        venv = make_vec(SimulatorSpec(id="CartPole-v1" if discrete else "Pendulum-v1"), 1, 0)
        try:
            args = {"buffer_size": 500} if algorithm not in ON_POLICY else {}
            ours, theirs = (
                describe(algorithm, build(algorithm, None, args, venv, 1, "cpu", e))
                for e in ("sb3", "sbx")
            )
        finally:
            venv.close()
        taken = set(engines.taken(algorithm)) & ours.keys() - {"policy_kwargs", "action_noise"}
        assert {n: theirs[n] for n in taken} == {n: ours[n] for n in taken}, algorithm


def test_weights_of_another_network_are_refused():
    one, other = (
        model_of("sac", {**OFF_POLICY, "policy_kwargs": {"net_arch": [n]}}) for n in (8, 9)
    )
    with pytest.raises(
        ValueError, match=r"bias is \(9,\) in the given weights, and \(8,\) in this"
    ):
        one.policy.load_state_dict(other.policy.state_dict())
    with pytest.raises(ValueError, match="in the given"):
        one.optimisers.load_state_dict(other.optimisers.state_dict())
    changed = {n: t + 1 for n, t in one.policy.state_dict().items()}
    one.policy.load_state_dict(changed)
    assert all(np.array_equal(t, changed[n]) for n, t in one.policy.state_dict().items())
