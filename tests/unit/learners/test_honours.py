"""Which fields of a file a learner honours: built-in ones, RLlib's, and those of plug-ins."""

import pytest

from drillyard.learners.honours import ALWAYS, EVERYTHING, HONOURABLE, refuse_ignored
from drillyard.learners.rllib.learner import Impala
from drillyard.learners.sb3 import PPO
from drillyard.spec import ExperimentSpec
from drillyard.workloads.rl import RlWorkload
from tests.helpers.refusals import refusals

BY_DRILLYARD = {
    "simulator": {"id", "args", "wrappers", "lesson", "metrics", "agent", "return_range"},
    "learner": {"algorithm", "engine", "preset", "args", "tune"},
    "train": {"steps", "checkpoint_every"},
    "evaluate": {
        "episodes",
        "seeds",
        "deterministic",
        "policy",
        "every",
        "videos",
        "conditions",
        "lesson",
    },
}
"""What does not depend on the learner, or is split or checked elsewhere."""


class Silent:
    name = "silent"
    resume = "restarts"


def spec_of(**changes):
    parts = {
        "name": "e",
        "simulator": {"id": "CartPole-v1"},
        "learner": {"algorithm": "tests.unit.learners.test_honours:Silent", "preset": None},
        "train": {"steps": 100},
        "evaluate": {},
    }
    for section, values in changes.items():
        parts[section] = {**parts[section], **values}
    return ExperimentSpec.model_validate(parts)


ASKED = {
    "simulator.wrappers.normalize": {"simulator": {"wrappers": ["normalize"]}},
    "simulator.wrappers.frame_stack": {"simulator": {"wrappers": ["frame_stack"]}},
    "simulator.curriculum": {
        "simulator": {
            "curriculum": {"stages": [{"lesson": {}, "promote": {"steps": 9}}, {"lesson": {}}]}
        }
    },
    "simulator.copies_on": {"simulator": {"copies_on": "hosts"}},
    "learner.policy": {"learner": {"policy": "MlpPolicy"}},
    "learner.init_from": {"learner": {"init_from": "run:t0001-s1"}},
    "learner.clone_from": {"learner": {"clone_from": {"trajectories": "a.npz"}}},
    "learner.callbacks": {"learner": {"callbacks": ["m:C"]}},
    "train.episodes": {"train": {"steps": None, "episodes": 5}},
    "train.max_time_s": {"train": {"max_time_s": 5}},
    "train.n_envs": {"train": {"n_envs": 8}},
    "train.copies": {"train": {"copies": "processes"}},
    "train.keep_checkpoints": {"train": {"keep_checkpoints": None}},
    "train.stop": {"train": {"stop": {"patience": 3}}},
    "train.log_interval": {"train": {"log_interval": 3}},
    "evaluate.every.steps": {"evaluate": {"every": {"steps": 10}}},
    "evaluate.every.after_episodes": {"evaluate": {"every": {"after_episodes": 10}}},
    "evaluate.keep_best": {"evaluate": {"keep_best": 2}},
    "evaluate.videos.every": {"evaluate": {"videos": {"every": 2}}},
}


def test_each_field_of_a_file_is_honoured_by_drillyard_or_can_be_by_a_learner():
    top = {name.split(".", 2)[0]: set() for name in HONOURABLE}
    for name in HONOURABLE:
        top[name.split(".")[0]].add(name.split(".")[1])
    spec = spec_of()
    for section, names in top.items():
        fields = set(type(getattr(spec, section)).model_fields)
        assert fields == names | BY_DRILLYARD[section], section
    assert set(ASKED) == set(HONOURABLE)


@pytest.mark.parametrize("name", HONOURABLE)
def test_a_field_is_refused_unless_the_learner_declares_it(name):
    spec = spec_of(**ASKED[name])
    (error,) = refusals(refuse_ignored, spec, Silent())
    assert error.value is not None and error.hint and error.allowed.startswith(ALWAYS[1])
    learner = Silent()
    learner.honours = (name,)
    refuse_ignored(spec, learner)
    refuse_ignored(spec, PPO())


def test_arguments_are_those_that_the_learner_declares():
    spec = spec_of(learner={"args": {"spread": 1, "spraed": 2}})
    learner = Silent()
    learner.honours = ("learner.args.spread",)
    (error,) = refusals(refuse_ignored, spec, learner)
    assert (error.field, error.value, error.allowed) == ("learner.args.spraed", 2, "spread")
    assert "'spread'" in error.hint
    learner.honours = ("learner.args",)
    refuse_ignored(spec, learner)


def test_a_value_that_each_run_fills_in_counts():
    spec = spec_of()
    late = [{"at": ["train", "n_envs"], "text": "${copies}"}]
    spec = ExperimentSpec.model_validate(
        {**spec.model_dump(mode="json"), "parameters": {"per_run": late}}
    )
    errors = refusals(refuse_ignored, spec, Silent())
    assert [e.field for e in errors] == ["train.n_envs"]


def test_it_is_refused_before_the_simulator_is_made(tmp_path):
    spec = spec_of(simulator={"id": "no_such_module:World"}, train={"n_envs": 2})
    errors = refusals(RlWorkload().check, spec, tmp_path)
    assert [e.field for e in errors] == ["train.n_envs"]


def test_built_in_learners_declare_too():
    assert PPO.honours == EVERYTHING and set(Impala.honours) < {*EVERYTHING}
