"""Tunables: what they take, what they refuse, how they are drawn."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean
from typing import Any

import pytest
from pydantic import ValidationError

from drillyard.errors import ConfigError
from drillyard.spec.tunables import Group, Space, Tunable
from tests.helpers.refusals import refusals


def one(**body: Any) -> Tunable:
    return Tunable.model_validate(body)


SIZE = one(type="int", range=[0, 100], default=7, special=[-1])
RATE = one(type="float", range=[1e-5, 1e-1], log=True, default=1e-3)
KIND = one(type="categorical", values=["a", 1, True, 2.5], default="a")


@pytest.mark.parametrize(
    ("tunable", "given", "taken"),
    [
        (SIZE, "42", 42),
        (SIZE, 42.0, 42),
        (SIZE, "42.0", 42),
        (SIZE, -1, -1),
        (SIZE, 100, 100),
        (RATE, "1e-3", 1e-3),
        (RATE, 1e-5, 1e-5),
        (one(type="float", range=[0, 2], default=1), 1, 1.0),
        (KIND, "a", "a"),
        (KIND, 1, 1),
        (KIND, True, True),
        (KIND, "true", True),
        (KIND, "1", 1),
        (KIND, "2.5", 2.5),
    ],
)
def test_a_value_is_taken_as_its_type(tunable, given, taken):
    found = tunable.take("x", given)
    assert (found, type(found)) == (taken, type(taken))


@pytest.mark.parametrize(
    ("tunable", "given", "why"),
    [
        (SIZE, 1.5, "lose its fraction"),
        (SIZE, "1.5", "lose its fraction"),
        (SIZE, 101, "out of range"),
        (SIZE, -2, "out of range"),
        (SIZE, "many", "not a number"),
        (SIZE, True, "not a number"),
        (SIZE, None, "not a number"),
        (SIZE, [1], "not a number"),
        (RATE, 1.0, "out of range"),
        (RATE, math.inf, "not finite"),
        (RATE, "nan", "not finite"),
        (KIND, "b", "not one of its values"),
        (KIND, 2, "not one of its values"),
    ],
)
def test_refused(tunable, given, why):
    with pytest.raises(ConfigError, match=why) as caught:
        tunable.take("x", given)
    assert caught.value.allowed == tunable.allowed


INT = {"type": "int", "range": [0, 9], "default": 1}
FLOAT = {"type": "float", "range": [0, 1], "default": 0}
WEIGHED = {**FLOAT, "special": [-1], "range_weight": 0}
BETA = {"type": "beta", "alpha": 8, "beta": 2}
WORDS = {"type": "categorical", "values": ["a", "b"], "default": "b"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"type": "int", "default": 1}, "needs a range"),
        ({**INT, "range": [3, 3], "default": 3}, "range is empty"),
        ({**INT, "range": [0, 2.5]}, "whole numbers"),
        ({**INT, "default": 1.5}, "lose its fraction"),
        ({**INT, "default": 10}, "out of range"),
        ({**INT, "bins": 11}, "11 bins"),
        ({**INT, "bins": 1}, "greater than or equal to 2"),
        ({**FLOAT, "log": True}, "above 0"),
        ({**FLOAT, "values": [1]}, "belongs to a categor"),
        ({**FLOAT, "range": [False, 1]}, "expected a number"),
        ({**FLOAT, "range": [0, math.inf]}, "finite"),
        ({**FLOAT, "special": [-1, -1]}, "twice"),
        ({**FLOAT, "special": [-1], "special_weights": [1]}, "together"),
        ({**WEIGHED, "special_weights": [1, 2]}, "1 special values and 2 weights"),
        ({**WEIGHED, "special_weights": [0]}, "all 0"),
        ({**FLOAT, "distribution": "bell"}, "beta"),
        ({**FLOAT, "distribution": "normal"}, "takes mu and sigma"),
        ({**FLOAT, "distribution": {**BETA, "alpha": 0}}, "greater than 0"),
        ({"type": "categorical", "default": "a"}, "needs values"),
        ({**WORDS, "values": ["b", "b"]}, "twice"),
        ({**WORDS, "default": "c"}, "not one of its values"),
        ({**WORDS, "values_weights": [1]}, "2 values and 1 weights"),
        ({**WORDS, "values_weights": [0, 0]}, "all 0"),
        ({**WORDS, "log": True}, "belongs to an int"),
        ({"type": "bool", "default": True}, "'int', 'float' or 'categorical'"),
        ({"type": "int", "range": [0, 9]}, "default"),
        ({**INT, "rang": 3}, "rang"),
    ],
)
def test_declarations_that_cannot_be(body, why):
    with pytest.raises(ValidationError, match=why):
        Tunable.model_validate(body)


def test_written_back_as_it_was_written():
    body = {**INT, "special": [-1]}
    assert one(**body).model_dump(mode="json") == body


# -- drawing --------------------------------------------------------------------------------------


def draws(tunable: Tunable, count: int = 4000) -> list[Any]:
    random = Random(1)
    return [tunable.draw(random) for _ in range(count)]


def test_every_draw_is_allowed_and_repeatable():
    for tunable in (SIZE, RATE, KIND):
        first = draws(tunable, 500)
        assert first == draws(tunable, 500)
        assert [tunable.take("x", v) for v in first] == first


def test_log_draws_by_order_of_magnitude():
    below = [v for v in draws(RATE) if v < 1e-3]
    assert 0.45 < len(below) / 4000 < 0.55  # linearly it would be 0.01


def test_weights_decide_how_often_a_value_is_drawn():
    kind = one(type="categorical", values=["a", "b"], values_weights=[1, 3], default="a")
    assert 0.72 < fmean(v == "b" for v in draws(kind)) < 0.78
    weights = {"special": [-1, 0], "special_weights": [0.5, 0.25], "range_weight": 0.25}
    size = one(type="int", range=[1, 9], default=1, **weights)
    found = draws(size)
    assert 0.46 < fmean(v == -1 for v in found) < 0.54
    assert 0.22 < fmean(v == 0 for v in found) < 0.28
    assert {v for v in found if v > 0} == set(range(1, 10))


def test_ends_of_an_int_are_as_probable_as_the_middle():
    found = draws(one(type="int", range=[0, 3], default=0), 8000)
    for value in range(4):
        assert 0.23 < found.count(value) / 8000 < 0.27


def test_bins():
    assert set(draws(one(**FLOAT, bins=5))) == {0, 0.25, 0.5, 0.75, 1}
    found = set(draws(one(type="int", range=[1, 1000], bins=4, log=True, default=1)))
    assert found == {1, 10, 100, 1000}


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [
        ({"type": "normal", "mu": 2, "sigma": 1}, 1.9, 2.2),
        (BETA, 7.8, 8.2),
        ("uniform", 4.8, 5.2),
    ],
)
def test_distributions(shape, low, high):
    found = draws(one(type="float", range=[0, 10], default=0, distribution=shape))
    assert low < fmean(found) < high
    assert min(found) >= 0


def test_quantiles_reach_both_ends():
    shape = {"type": "normal", "mu": 0, "sigma": 0.1}
    far = one(type="float", range=[5, 10], default=5, distribution=shape)
    for tunable in (SIZE, RATE, KIND, far):
        low, high = tunable.at(0.0), tunable.at(1.0)
        assert tunable.take("x", low) == low
        assert tunable.take("x", high) == high
    assert (SIZE.at(0.0), SIZE.at(1.0)) == (0, 100)


def test_unit_does_not_divide_by_zero():
    assert one(type="categorical", values=["only"], default="only").unit("only") == 0.0
    assert KIND.unit(2.5) == 1.0
    assert SIZE.unit(-1) == 0.0
    assert SIZE.unit(25) == 0.25


# -- groups ---------------------------------------------------------------------------------------


def space() -> Space:
    return Space(
        {
            "machine": Group.model_validate({"cost": 10, "params": {"size": SIZE}}),
            "net": Group.model_validate({"cost": 0.5, "params": {"rate": RATE, "kind": KIND}}),
        }
    )


def test_assigned_values_replace_defaults():
    there = space()
    assert there.assign({}) == {"size": 7, "rate": 1e-3, "kind": "a"}
    changed = there.assign({"size": "42"})
    assert changed == {"size": 42, "rate": 1e-3, "kind": "a"}
    assert there.assign({**changed, "kind": 1}) == {"size": 42, "rate": 1e-3, "kind": 1}
    assert there.assign({}) == there.defaults()
    errors = refusals(there.assign, {"size": 1.5, "rat": 1, "kind": "b"})
    assert [e.field for e in errors] == ["size", "rat", "kind"]
    assert "'rate'" in str(errors[1].hint)


def test_one_name_in_two_groups():
    group = Group.model_validate({"params": {"size": SIZE}})
    with pytest.raises(ConfigError, match="'one' and 'two'"):
        Space({"one": group, "two": group})


@pytest.mark.parametrize("name", ["a!b", "1x", "a b", ""])
def test_names(name):
    with pytest.raises(ValidationError, match="not a valid name for a tunable"):
        Group.model_validate({"params": {name: SIZE}})
