"""Thousands of broken files: each loads or is refused in words, never with a traceback."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drillyard.errors import UserError
from drillyard.spec.load import load

KEYS = st.sampled_from(
    [
        "name",
        "simulator",
        "learner",
        "train",
        "evaluate",
        "seeds",
        "baselines",
        "backend",
        "backends",
        "resources",
        "budget",
        "store",
        "tracking",
        "parameters",
        "id",
        "args",
        "lesson",
        "wrappers",
        "algorithm",
        "steps",
        "episodes",
        "n_envs",
        "every",
        "const_args",
        "tunables",
        "required_args",
        "tunable_params",
        "url",
        "mlflow",
        "requirements",
        "report",
        "units",
        "algo",
        "preset",
        "policy",
        "callbacks",
        "params",
        "learning_rate",
        "policy_kwargs",
        "include_tunables",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "cstr",
            "ppo",
            "local",
            "$x",
            "${env:HOME}",
            "$name",
            "a:b",
            "..",
            "x/y",
            "http://u:p@h",
            "1e3",
            "auto",
            "sac",
            "random",
        ]
    )
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
BASE = {
    "name": "x",
    "simulator": {"id": "cstr"},
    "learner": {"algorithm": "ppo"},
    "train": {"steps": 10_000},
}


def check(folder, tree):
    file = folder / "fuzz.json"
    file.write_text(json.dumps(tree))
    try:
        load(file, sets=["train.n_envs=2"])
    except UserError as error:
        assert str(error)
        assert "Traceback" not in str(error)


TUNED = {"algorithm": "ppo", "args": {"gamma": {"tune": [0.9, 0.99]}}}
STUDY = {"trials": 2}


@pytest.mark.parametrize(
    "parts",
    [
        {"learner": [TUNED], "study": STUDY},
        {"learner": TUNED, "study": STUDY, "parameters": [1]},
        {"learner": TUNED, "study": STUDY, "parameters": {"tunables": [1]}},
        {"learner": TUNED, "study": {"chooser": "list", "experiments": 3}},
        {"learner": {"algorithm": "ppo", "args": {"learning_rate": {"name": [1]}}}},
    ],
)
def test_a_part_of_another_form_is_refused_without_a_traceback(tmp_path, parts):
    file = tmp_path / "parts.json"
    file.write_text(json.dumps({**BASE, **parts}))
    with pytest.raises(UserError, match=r"learner|parameters|study"):
        load(file)


@pytest.mark.heavy
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree(tmp_path, tree):
    check(tmp_path, {**BASE, **tree})


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_ten_thousand_trees(tmp_path, tree):
    check(tmp_path, {**BASE, **tree})
