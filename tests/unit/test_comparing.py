"""Aggregates over tasks and comparisons: the numbers of rliable, and what they mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drillyard import statistics as st

RLIABLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "rliable.json").read_text()
)


def strata(name: str) -> list[list[float]]:
    return np.array(RLIABLE["scores"][name]).T.tolist()


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_aggregates_are_rliables(name: str) -> None:
    found = st.aggregates(strata(name))
    for i, kind in enumerate(RLIABLE["names"]):
        assert found[kind].value == pytest.approx(RLIABLE["points"][name][i], abs=1e-12), kind
        low, high = (RLIABLE["intervals"][name][end][i] for end in (0, 1))
        # Two bootstraps of the same thing: they differ by their own noise.
        noise = 0.03 * (high - low) + 1e-9
        assert found[kind].low == pytest.approx(low, abs=noise), kind
        assert found[kind].high == pytest.approx(high, abs=noise), kind


@pytest.mark.parametrize("pair", sorted(RLIABLE["better"]))
def test_probability_of_improvement_is_rliables(pair: str) -> None:
    x, y = (strata(name) for name in pair.split(","))
    found = st.probability_of_improvement(x, y)
    assert found.value == pytest.approx(RLIABLE["better"][pair], abs=1e-12)
    low, high = RLIABLE["better_intervals"][pair]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)
    turned = st.probability_of_improvement(y, x)
    assert found.value + turned.value == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_performance_profile_is_rliables(name: str) -> None:
    found = st.performance_profile(strata(name), RLIABLE["taus"])
    assert found.share == pytest.approx(RLIABLE["profiles"][name], abs=1e-12)
    for own, theirs in zip((found.low, found.high), RLIABLE["bands"][name], strict=True):
        assert own == pytest.approx(theirs, abs=0.06)


def test_the_same_data_give_the_same_intervals() -> None:
    assert st.aggregates(strata("a")) == st.aggregates(strata("a"))
    assert st.aggregates(strata("a")) != st.aggregates(strata("a"), seed=1)


def test_tasks_with_unequal_numbers_of_runs_weigh_the_same() -> None:
    found = st.aggregates([[0.0] * 9, [1.0]])
    assert found["mean"].value == 0.5
    assert found["optimality_gap"].value == 0.5
    assert found["iqm"].value == 0.0
    assert st.performance_profile([[0.0] * 9, [1.0]], [0.5]).share == (0.5,)


def test_a_run_of_a_task_is_never_drawn_for_another() -> None:
    found = st.aggregates([[0.0, 0.0], [1.0, 1.0]])["mean"]
    assert (found.low, found.high) == (0.5, 0.5)


def test_nothing_is_refused() -> None:
    for nothing in ([], [[]]):
        with pytest.raises(ValueError, match="at least one run"):
            st.aggregates(nothing)
        with pytest.raises(ValueError, match="at least one run"):
            st.probability_of_improvement(nothing, nothing)
    with pytest.raises(ValueError, match="at least one run"):
        st.probability_of_improvement([[1.0]], [[1.0], [2.0]])


def test_pairs_see_a_difference_that_means_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 50, 30)
    one = {i: float(v + 1 + rng.normal(0, 0.2)) for i, v in enumerate(hard)}
    other = {i: float(v) for i, v in enumerate(hard)} | {99: 5.0}
    found = st.paired(one, other)
    assert found is not None
    assert (found.n, found.wins, found.ties) == (30, 30, 0)
    assert found.low is not None
    assert found.low > 0.5
    assert found.p < 1e-4
    # Unpaired, the same data show nothing.
    low, high = st.t_interval(list(one.values())) or (0, 0)
    assert low < np.mean(list(other.values())) < high


def test_pairs_of_nothing_and_of_equals() -> None:
    assert st.paired({1: 1.0}, {2: 1.0}) is None
    same = st.paired({1: 1.0, 2: 3.0}, {1: 1.0, 2: 3.0})
    assert same is not None
    assert (same.difference, same.ties, same.p) == (0.0, 2, 1.0)
    single = st.paired({1: 2.0}, {1: 1.0})
    assert single is not None
    assert (single.difference, single.low, single.p) == (1.0, None, 1.0)


def test_ties_are_one_half() -> None:
    # 1 against 1 and 2, twice: a half and nothing; 2 against them: one and a half.
    assert st.probability_of_improvement([[1, 1, 2]], [[1, 2]]).value == pytest.approx(2.5 / 6)
    assert st.probability_of_improvement([[3.0] * 4], [[3.0] * 5]).value == 0.5
