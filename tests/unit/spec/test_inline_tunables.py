"""``{tune: …}`` instead of a value: what it means, whose default it takes, what is refused."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from drillyard.documents.json_types import as_object
from drillyard.errors import ConfigError
from drillyard.mailbox.records import RunRecord
from drillyard.spec.algorithms.argument_table import ARGUMENTS, SPACES
from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
from drillyard.spec.binding import bound, run_parameters, space
from drillyard.spec.inline_forms import read_form, with_default
from drillyard.spec.load import Loaded, load
from drillyard.spec.tunables import Tunable
from drillyard.studies.choosers import drawn
from drillyard.studies.factory import checked
from tests.helpers.refusals import refusals

HEAD = "name: x\nsimulator: {id: cstr}\ntrain: {steps: 10_000}\n"
STUDY = "study: {trials: 30}\n"


def loaded(
    folder: Path, learner: str, more: str = STUDY, head: str = HEAD, **options: Any
) -> Loaded:
    file = folder / "a.yaml"
    file.write_text(f"{head}learner: {learner}\n{more}", encoding="utf-8")
    return load(file, **options)


def refused(folder: Path, learner: str, more: str = STUDY) -> dict[str, ConfigError]:
    errors = refusals(loaded, folder, learner, more)
    assert all(e.file == "a.yaml" and e.line and e.allowed and e.hint for e in errors), errors
    return {str(e.field): e for e in errors}


def test_an_inline_space_is_the_declared_one(tmp_path):
    inline = loaded(
        tmp_path,
        "{algorithm: ppo, preset: null, args: {learning_rate: {tune: [1e-4, 1e-2], log: true}, "
        "clip_range: {tune: {choices: [0.1, 0.2]}}}}",
    ).spec
    declared = loaded(
        tmp_path,
        "{algorithm: ppo, preset: null, args: {learning_rate: $learning_rate, "
        "clip_range: $clip_range}}",
        "study: {chooser: tpe, trials: 30}\n"
        "parameters:\n  tunable_params: [inline]\n  tunables:\n    inline:\n      params:\n"
        "        learning_rate: {type: float, range: [1e-4, 1e-2], log: true, default: 3e-4}\n"
        "        clip_range: {type: categorical, values: [0.1, 0.2], default: 0.2}\n",
    ).spec
    assert space(inline).groups == space(declared).groups
    assert inline.learner == declared.learner
    assert inline.study == declared.study


def test_a_run_gets_the_values_of_its_trial(tmp_path):
    spec = loaded(
        tmp_path,
        "{algorithm: ppo, args: {gamma: {tune: [0.9, 0.99]}}}",
        head="name: x\nsimulator: {id: simple-adder, args: {n: {tune: {choices: [a, 2, true]}}}}\n"
        "train: {steps: 10_000, n_envs: {tune: [1, 8]}}\n",
    ).spec
    assignment = {"gamma": 0.95, "n": True, "n_envs": 4}
    parameters = run_parameters(spec, run="t0002-s1", seed=1, assignment=assignment)
    run = RunRecord.model_construct(
        experiment="x", run="t0002-s1", seed=1, parameters=parameters, parts={}
    )
    own = bound(spec, run)
    assert own.learner is not None and own.train is not None and own.simulator is not None
    assert (own.learner.args["gamma"], own.train.n_envs) == (0.95, 4)
    assert own.simulator.args == {"n": True}


def test_the_default_is_what_the_field_would_have(tmp_path):
    args = (
        "learning_rate: {tune: [1e-5, 2e-3], log: true}, n_steps: {tune: {choices: [64, 512]}}, "
        "gamma: {tune: [0.5, 0.7]}, ent_coef: {tune: [0.0, 0.1], default: 0.05}, "
        "target_kl: {tune: [0.01, 0.49]}, gae_lambda: {tune: [0, 1]}"
    )
    tuned = space(loaded(tmp_path, f"{{algorithm: ppo, args: {{{args}}}}}").spec).defaults()
    # Of the preset cstr/ppo, except the last three: the nearest, the file's, and the middle.
    assert tuned == {
        "learning_rate": 1e-3,
        "n_steps": 64,
        "gamma": 0.7,
        "ent_coef": 0.05,
        "target_kl": 0.25,
        "gae_lambda": 0.95,
    }
    plain = space(loaded(tmp_path, f"{{algorithm: ppo, preset: null, args: {{{args}}}}}").spec)
    assert plain.defaults()["learning_rate"] == 3e-4


def test_numbers_are_whole_where_the_argument_counts(tmp_path):
    spec = loaded(
        tmp_path,
        "{algorithm: sac, args: {gamma: {tune: [0, 1]}, buffer_size: {tune: [1e3, 1e5]}}}",
        head="name: x\nsimulator: {id: cstr, args: {a: {tune: [1, 3]}, b: {tune: [1.0, 3]}}}\n"
        "train: {steps: 10_000}\n",
    ).spec
    types = {name: tunable.type for name, tunable in space(spec).tunables.items()}
    assert types == {"gamma": "float", "buffer_size": "int", "a": "int", "b": "float"}


def test_two_fields_with_one_key_have_names_of_their_own(tmp_path):
    spec = loaded(
        tmp_path,
        "{algorithm: ppo, args: {gamma: {tune: [0.9, 0.99]}, vf_coef: {tune: [0.1, 1.0]}}}",
        STUDY + "parameters: {const_args: {vf_coef: 3}}\n",
        head="name: x\nsimulator: {id: cstr, args: {gamma: {tune: [1, 3]}}}\n"
        "train: {steps: 10_000}\n",
    ).spec
    names = {"simulator_args_gamma", "learner_args_gamma", "learner_args_vf_coef"}
    assert set(space(spec).tunables) == names


def test_declared_groups_stay_beside_it(tmp_path):
    spec = loaded(
        tmp_path,
        "{algorithm: ppo, args: {gamma: {tune: [0.9, 0.99]}, vf_coef: $weight}}",
        STUDY + "parameters:\n  tunable_params: [inline]\n  tunables:\n    inline: {params: "
        "{weight: {type: float, range: [0.1, 1.0], default: 0.5}}}\n",
    ).spec
    assert list(space(spec).groups) == ["inline", "inline-2"]
    assert set(space(spec).tunables) == {"weight", "gamma"}


def test_a_key_named_tune_is_an_argument_where_keys_are_names(tmp_path):
    text = (
        "name: x\nsimulator: {id: cstr, args: {tune: 3}}\ntrain: {steps: 10_000}\n"
        "backends: {ssh: {tune: [1, 2]}}\nparameters: {const_args: {gains: {tune: [1, 2]}}}\n"
    )
    spec = loaded(tmp_path, "{algorithm: ppo}", "", head=text).spec
    assert spec.simulator is not None and spec.simulator.args == {"tune": 3}
    assert spec.backends == {"ssh": {"tune": [1, 2]}}
    escaped = text.replace("{tune: 3}", "{gains: $gains}")
    spec = loaded(tmp_path, "{algorithm: ppo}", "", head=escaped).spec
    assert spec.simulator is not None and spec.simulator.args == {"gains": {"tune": [1, 2]}}


def test_values_of_the_command_line_replace_a_space_and_make_one(tmp_path):
    learner = "{algorithm: ppo, args: {gamma: {tune: [0.9, 0.99]}}}"
    fixed = loaded(tmp_path, learner, sets=["learner.args.gamma=0.9", "study=null"]).spec
    assert fixed.learner is not None and fixed.learner.args["gamma"] == 0.9
    made = loaded(
        tmp_path,
        "{algorithm: ppo, args: {gamma: 0.9}}",
        "",
        sets=["learner.args.gamma={tune: [0.5, 0.6]}", "study.trials=3"],
        tunables=["gamma=0.55"],
    ).spec
    assert made.learner is not None and made.learner.args["gamma"] == 0.55
    assert space(made).tunables["gamma"].range == [0.5, 0.6]


def test_children_tune_too(tmp_path):
    part = (
        "simulator: {id: cstr}, train: {steps: 500}, learner: {algorithm: ppo, args: {gamma: %s}}"
    )
    one, two = part % "{tune: [0.9, 0.95]}", part % "{tune: [0.5, 0.6]}"
    file = tmp_path / "a.yaml"
    text = (
        f"name: x\nworkload: composite\nchildren:\n- {{name: a, {one}}}\n- {{name: b-2, {two}}}\n"
    )
    file.write_text(text + "study: {trials: 3, objectives: [{metric: evaluate/return}]}\n")
    assert set(space(load(file).spec).tunables) == {"a_gamma", "b_2_gamma"}
    file.write_text(text)
    errors = refusals(load, file)
    assert all("no `study:`" in error.message for error in errors)


# -- ready-made spaces ----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", sorted(SPACES))
def test_ready_made_spaces_hold_values_that_the_algorithm_takes(algorithm):
    random = Random(1)
    for _ in range(50):
        args: dict[str, Any] = {}
        for name, node in SPACES[algorithm].items():
            problems, body = read_form(as_object(node), algorithm, ("learner", "args", name))
            assert not problems and body is not None, problems
            tunable = Tunable.model_validate(with_default(body, ARGUMENTS[algorithm][name]))
            args[name] = tunable.draw(random)
        if "batch_size" in args and "n_steps" in args:
            args["batch_size"] = min(args["batch_size"], args["n_steps"])
        validate_arguments(algorithm, args, Sizes(1, 1_000_000))


def test_every_built_in_algorithm_has_one():
    assert all(SPACES.values()) and SPACES.keys() == ARGUMENTS.keys()


def test_the_whole_space_leaves_alone_what_the_file_sets(tmp_path):
    spec = loaded(
        tmp_path,
        "{algorithm: PPO, tune: default, args: {gamma: 0.9, n_epochs: {tune: [1, 4]}}}",
    ).spec
    tuned = space(spec).tunables
    assert tuned.keys() == SPACES["ppo"].keys() - {"gamma"}
    assert tuned["n_epochs"].range == [1, 4]
    assert spec.learner is not None and spec.learner.args["gamma"] == 0.9
    one = loaded(tmp_path, "{algorithm: ppo, args: {learning_rate: {tune: default}}}").spec
    assert space(one).tunables["learning_rate"].range == [1e-5, 2e-3]


def test_only_rollouts_are_drawn_that_minibatches_divide(tmp_path):
    spec = loaded(tmp_path, "{algorithm: ppo, tune: default}").spec
    assert spec.study is not None and spec.train is not None
    assert spec.study.constraints == ["n_steps * 8 % batch_size == 0"]
    tuned, constraints = checked(spec)
    taken: list[Any] = []
    for number in range(100):
        one = drawn(tuned, constraints, f"0/{number}", taken)
        assert one is not None
        args = {name: one[name] for name in SPACES["ppo"]}
        validate_arguments("ppo", args, Sizes(spec.train.n_envs, 10_000))
    fixed = loaded(tmp_path, "{algorithm: ppo, tune: default, args: {batch_size: 64}}").spec
    assert fixed.study is not None and fixed.study.constraints == ["n_steps * 8 % 64 == 0"]
    other = loaded(tmp_path, "{algorithm: ppo, args: {gamma: {tune: default}}}").spec
    assert other.study is not None and other.study.constraints == []


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "field", "words"),
    [
        ("gamma: {tune: [0.99, 0.9]}", "gamma.tune", "write [0.9, 0.99]"),
        ("gamma: {tune: [0.9, 0.9]}", "gamma.tune", "range is empty"),
        ("learning_rate: {tune: [0, 0.1], log: true}", "learning_rate.tune", "begins at 0"),
        ("gamma: {tune: {choices: []}}", "gamma.tune.choices", "has no choices"),
        ("gamma: {tune: {choices: [[1]]}}", "gamma.tune.choices", "list of single values"),
        ("gamma: {tune: {choices: [0.9, 0.9]}}", "gamma.tune.choices", "listed twice"),
        ("gamma: {tune: {chioces: [0.9]}}", "gamma.tune.chioces", "{choices: [64"),
        ("gamma: {tune: [0.9, 0.95, 0.99]}", "gamma.tune", "{choices: [0.9, 0.95, 0.99]}"),
        ("gamma: {tune: [a, b]}", "gamma.tune", "{choices: [a, b]}"),
        ("gamma: {tune: 0.9}", "gamma.tune", "is not a search space"),
        ("gamma: {tune: [0.9, 0.99], lgo: true}", "gamma.lgo", "did you mean 'log'"),
        ("gamma: {tune: [0.9, 0.99], log: maybe}", "gamma.log", "boolean"),
        ("gamma: {tune: [0.9, 0.99], default: 0.5}", "gamma.default", "is out of range"),
        ("gamma: {tune: {choices: [0.9]}, log: true}", "gamma.log", "not to a categorical"),
        ("gamma: {tune: [0.9, 1.5]}", "gamma.tune", "from 0 to 1"),
        ("n_steps: {tune: [1.5, 8]}", "n_steps.tune", "whole numbers"),
        ("n_steps: {tune: {choices: [a, 64]}}", "n_steps.tune.choices", "whole number"),
        ("vf_coef: {tune: default}", "vf_coef.tune", "give a range yourself"),
        ("gamme: {tune: [0.9, 0.99]}", "gamme", "did you mean 'gamma'"),
    ],
)
def test_refused_with_the_place(tmp_path, args, field, words):
    (error,) = refused(tmp_path, f"{{algorithm: ppo, args: {{{args}}}}}").items()
    assert error[0] == f"learner.args.{field}"
    assert words in f"{error[1].message} {error[1].allowed} {error[1].hint}"


@pytest.mark.parametrize(
    ("learner", "field", "allowed"),
    [
        ("{algorithm: impala, tune: default}", "learner.tune", "ppo"),
        ("{algorithm: pppo, tune: default}", "learner.tune", "ppo"),
        ("{algorithm: ppo, tune: all}", "learner.tune", "default"),
        ("{algorithm: {tune: {choices: [ppo, a2c]}}}", "learner.algorithm", "learner.args"),
        ("{algorithm: ppo, policy: {tune: [1, 2]}}", "learner.policy", "learner.args"),
    ],
)
def test_refused_spaces_and_fields(tmp_path, learner, field, allowed):
    errors = refused(tmp_path, learner)
    assert allowed in str(errors[field].allowed)


def test_what_is_the_same_in_all_trials_cannot_be_tuned(tmp_path):
    more = (
        "evaluate: {episodes: {tune: [1, 5]}}\nbudget: {max_hours: {tune: [1, 5]}}\n"
        "study: {trials: 3, chooser: list, experiments: [{learner: {args: {gamma: {tune: "
        "[0.1, 0.2]}}}}]}\n"
    )
    assert refused(tmp_path, "{algorithm: ppo}", more).keys() == {
        "evaluate.episodes",
        "budget.max_hours",
        "study.experiments[0].learner.args.gamma",
    }


def test_without_a_study(tmp_path):
    args = "{algorithm: ppo, args: {gamma: {tune: [0.9, 0.99]}, vf_coef: {tune: [0.1, 1]}}}"
    (error,) = refused(tmp_path, args, "").values()
    assert (error.field, error.line) == ("learner.args.gamma", 4)
    assert "learner.args.vf_coef" in error.message and "study: {trials: 30}" in str(error.hint)
    assert refused(tmp_path, "{algorithm: ppo, tune: default}", "").keys() == {"learner.tune"}
    assert refused(tmp_path, args, "study: {}\n").keys() == {"study.trials"}


def test_all_mistakes_are_reported_at_once(tmp_path):
    errors = refused(
        tmp_path,
        "{algorithm: ppo, args: {gamma: {tune: [1, 0]}, n_epochs: {tune: {choices: []}}, "
        "vf_coef: -1}}",
        "seeds: []\n",
    )
    assert errors.keys() == {
        "learner.args.gamma.tune",
        "learner.args.n_epochs.tune.choices",
        "learner.args.vf_coef",
        "seeds",
    }
