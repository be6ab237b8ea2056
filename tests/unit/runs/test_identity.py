"""What makes another experiment, what only repeats a phase, and what changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from drillyard.errors import IdentityChanged
from drillyard.mailbox.records import Phase
from drillyard.runs.identity import (
    Change,
    device,
    difference,
    first_to_repeat,
    identity,
    needs_code,
    parts,
    refuse,
)
from drillyard.spec import ExperimentSpec

BASE: dict[str, Any] = {
    "name": "cstr",
    "simulator": {"id": "cstr", "lesson": {"Cref_signal": {"values": [1, 2]}}},
    "learner": {"algorithm": "ppo", "args": {"learning_rate": 3e-4}},
    "train": {"steps": 1000, "n_envs": 2},
    "seeds": [1, 2],
    "baselines": ["hold", "random"],
}


def spec(**changes: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate({**BASE, **changes})


def changed(**changes: Any) -> list[Change]:
    return difference(parts(spec(), None), parts(spec(**changes), None))


@pytest.mark.parametrize(
    "changes",
    [
        {"simulator": {"id": "cstr", "args": {"coolant_rule": "held"}}},
        {"learner": {"algorithm": "ppo", "args": {"learning_rate": 1e-4}}},
        {"learner": {"algorithm": "sac"}},
        {"train": {"steps": 1000, "n_envs": 4}},
        {"train": {"steps": 1000, "n_envs": 2, "checkpoint_every": 10}},
        {"resources": {"threads": 2}},
        {"resources": {"device": "cuda"}},
        {"resources": {"gpus": 1}},
        {"parameters": {"const_args": {"a": 1}}},
        {"requirements": ["foo==1"]},
        {"evaluate": {"every": {"steps": 100}}},
    ],
)
def test_what_training_depends_on_is_another_experiment(changes):
    found = changed(**changes)
    assert {c.part for c in found} == {"training"}
    assert identity(parts(spec(), None)) != identity(parts(spec(**changes), None))
    with pytest.raises(IdentityChanged, match="exists with other settings") as caught:
        refuse("cstr", found)
    assert "--allow-change" in str(caught.value.hint)
    refuse("cstr", found, allow_change=True)
    assert first_to_repeat(found) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [1, 2, 3]},
        {"backend": "gcp"},
        {"backends": {"gcp": {"zone": "x"}}},
        {"resources": {"workers": 9}},
        {"resources": {"device": "cpu"}},
        {"budget": {"max_hours": 3}},
        {"tracking": {"mlflow": None}},
        {"report": {"units": {"Cr": "mol/l"}}},
        {"on_driver_loss": "stop"},
        {"train": {"steps": 1000, "n_envs": 2, "log_interval": 5}},
        {"baselines": ["random", "hold"]},
    ],
)
def test_what_changes_no_result_changes_nothing(changes):
    assert changed(**changes) == []


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({"train": {"steps": 2000, "n_envs": 2}}, Phase.TRAIN),
        ({"evaluate": {"episodes": 7}}, Phase.EVALUATE),
        ({"evaluate": {"policy": "final"}}, Phase.EVALUATE),
        ({"baselines": ["hold"]}, Phase.EVALUATE),
        ({"seeds": [2, 1]}, Phase.EVALUATE),  # baselines belong to the first seed
        ({"store": [{"url": "/data"}]}, Phase.STORE),
    ],
)
def test_what_repeats_a_phase(changes, phase):
    found = changed(**changes)
    refuse("cstr", found)
    assert first_to_repeat(found) is phase


def test_with_evaluation_while_training_its_way_belongs_to_training():
    every = {"every": {"steps": 100}}
    before = parts(spec(evaluate=every), None)
    found = difference(before, parts(spec(evaluate={**every, "deterministic": False}), None))
    assert {c.part for c in found} == {"training", "evaluation"}
    found = difference(before, parts(spec(evaluate={**every, "episodes": 3}), None))
    assert {c.part for c in found} == {"evaluation"}


@pytest.mark.parametrize(
    "train",
    [{"steps": 999}, {"episodes": 5}, {"steps": 1000, "max_time_s": 5}],
)
def test_a_budget_only_grows(train):
    found = changed(train={**train, "n_envs": 2})
    with pytest.raises(IdentityChanged, match="budget can grow, but not shrink"):
        refuse("cstr", found, allow_change=True)


def test_a_limit_may_go():
    limited = parts(spec(train={"steps": 1000, "n_envs": 2, "max_time_s": 5}), None)
    refuse("cstr", difference(limited, parts(spec(), None)))


def test_the_difference_reads_well():
    (change,) = changed(learner={"algorithm": "ppo", "args": {"learning_rate": 0.001}})
    assert str(change) == "learner.args.learning_rate: 0.0003 -> 0.001"
    (change,) = changed(learner={"algorithm": "ppo", "args": {}})
    assert str(change) == "learner.args.learning_rate: 0.0003 -> (missing)"


def test_code_counts_and_an_older_record_is_compared_where_it_can_be():
    (change,) = difference(parts(spec(), None), parts(spec(), "abc"))
    assert (change.part, change.field) == ("training", "code")
    older = {"training": parts(spec(), None)["training"]}
    assert difference(older, parts(spec(train={"steps": 5, "n_envs": 2}), None)) == []


def test_only_experiments_with_code_of_their_own_need_it():
    assert not needs_code(spec())
    assert needs_code(spec(simulator={"id": "world:World"}))
    assert needs_code(spec(learner={"algorithm": "ppo", "callbacks": ["hooks:Stop"]}))
    assert needs_code(spec(workload="mine:Work"))
    assert not needs_code(spec(simulator={"id": "cstr", "args": {"at": "10:30"}}))
    table = {
        "observes": {"x": {"min": 0, "max": 1}},
        "acts": {"u": {"min": 0, "max": 1}},
        "reward": "-x",
    }
    program = {"id": "external", "args": {"command": "perl kiln.pl"}, "agent": table}
    assert needs_code(spec(simulator=program))


def test_auto_is_a_rule():
    assert device(spec()) == "cpu"
    assert device(spec(resources={"gpus": 1})) == "cuda"
