"""Aggregates over tasks and comparisons: the numbers of rliable, and what they mean.

The numbers are rliable's; the intervals are not, on purpose: see
``docs/explanation/intervals.md``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drillyard import statistics as st

RLIABLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "rliable.json").read_text()
)


def strata(name: str) -> list[list[float]]:
    return np.array(RLIABLE["scores"][name]).T.tolist()


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_aggregates_are_rliables_and_their_intervals_are_wider(name):
    found = st.aggregates(strata(name))
    for i, kind in enumerate(RLIABLE["names"]):
        assert found[kind].value == pytest.approx(RLIABLE["points"][name][i], abs=1e-12), kind
        if kind == "median":
            assert found[kind].low is None  # rliable has one; nothing says that it holds
            continue
        # On purpose: a percentile bootstrap of five to seven runs a task holds the truth in 0.88
        # to 0.93 of cases (tests/benchmarks/coverage).
        low, high = (RLIABLE["intervals"][name][end][i] for end in (0, 1))
        assert found[kind].low is not None and found[kind].high is not None
        assert 0.9 < (found[kind].high - found[kind].low) / (high - low) < 1.8, kind


@pytest.mark.parametrize("pair", sorted(RLIABLE["better"]))
def test_probability_of_improvement_is_rliables(pair):
    x, y = (strata(name) for name in pair.split(","))
    found = st.probability_of_improvement(x, y)
    assert found.value == pytest.approx(RLIABLE["better"][pair], abs=1e-12)
    # The interval is another one on purpose: rliable's shrinks to a point where all runs of the
    # one are better. Where they are mixed the two are about as wide.
    low, high = RLIABLE["better_intervals"][pair]
    assert found.low is not None and found.high is not None
    assert 0.8 < (found.high - found.low) / (high - low) < 1.6
    assert found.low < found.value < found.high
    turned = st.probability_of_improvement(y, x)
    assert found.value + turned.value == pytest.approx(1.0)


def test_three_runs_above_three_are_no_certainty():
    found = st.probability_of_improvement([[10.0, 11.0, 12.0]], [[1.0, 2.0, 3.0]])
    assert found.value == 1.0
    assert found.low is not None and found.low < 0.5
    few = st.probability_of_improvement([[10.0, 11.0]], [[1.0, 2.0]])
    assert (few.value, few.low, few.high) == (1.0, None, None)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_performance_profile_is_rliables_and_its_band_is_never_a_line(name):
    found = st.performance_profile(strata(name), RLIABLE["taus"])
    assert found.share == pytest.approx(RLIABLE["profiles"][name], abs=1e-12)
    lows, highs = RLIABLE["bands"][name]
    for own, theirs in zip(found.low, lows, strict=True):
        assert own <= theirs + 0.04
    for own, theirs in zip(found.high, highs, strict=True):
        assert own >= theirs - 0.04
    assert min(h - w for w, h in zip(found.low, found.high, strict=True)) > 0.1


def test_the_band_of_a_profile_is_that_of_clopper_and_pearson():
    from scipy.stats import binomtest

    found = st.performance_profile([[1.0, 2.0, 3.0], [0.0, 5.0, 6.0, 7.0]][:1], [1.5])
    wanted = binomtest(2, 3).proportion_ci(0.95, "exact")
    assert (found.low[0], found.high[0]) == pytest.approx((wanted.low, wanted.high))


def test_tasks_with_unequal_numbers_of_runs_weigh_the_same():
    found = st.aggregates([[0.0] * 9, [1.0]])
    assert found["mean"].value == 0.5
    assert found["optimality_gap"].value == 0.5
    assert found["iqm"].value == 0.0
    assert st.performance_profile([[0.0] * 9, [1.0]], [0.5]).share == (0.5,)


def test_differences_between_tasks_do_not_widen_an_interval():
    found = st.aggregates([[0.0, 0.1, 0.2], [1.0, 1.1, 1.2]])
    for kind in ("mean", "optimality_gap"):
        assert found[kind].high - found[kind].low < 0.25, kind  # type: ignore[operator]
    assert st.aggregates([[0.0, 0.0], [1.0, 1.0]])["mean"].low is None


def test_nothing_is_refused():
    for nothing in ([], [[]]):
        with pytest.raises(ValueError, match="at least one run"):
            st.aggregates(nothing)
        with pytest.raises(ValueError, match="at least one run"):
            st.probability_of_improvement(nothing, nothing)
    with pytest.raises(ValueError, match="at least one run"):
        st.probability_of_improvement([[1.0]], [[1.0], [2.0]])


def test_pairs_see_a_difference_that_means_hide():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 50, 30)
    one = {i: float(v + 1 + rng.normal(0, 0.2)) for i, v in enumerate(hard)}
    other = {i: float(v) for i, v in enumerate(hard)} | {99: 5.0}
    found = st.paired(one, other)
    assert (found.n, found.wins, found.ties) == (30, 30, 0)
    assert found.low is not None
    assert found.low > 0.5
    assert found.p < 1e-4
    # Unpaired, the same data show nothing.
    low, high = st.mean_interval(list(one.values())) or (0, 0)
    assert low < np.mean(list(other.values())) < high


def test_pairs_of_nothing_and_of_equals():
    assert st.paired({1: 1.0}, {2: 1.0}) is None
    same = st.paired({1: 1.0, 2: 3.0}, {1: 1.0, 2: 3.0})
    assert (same.difference, same.ties, same.p) == (0.0, 2, 1.0)
    single = st.paired({1: 2.0}, {1: 1.0})
    assert (single.difference, single.low, single.p) == (1.0, None, 1.0)


def test_ties_are_one_half():
    # 1 against 1 and 2, twice: a half and nothing; 2 against them: one and a half.
    assert st.probability_of_improvement([[1, 1, 2]], [[1, 2]]).value == pytest.approx(2.5 / 6)
    assert st.probability_of_improvement([[3.0] * 4], [[3.0] * 5]).value == 0.5


def test_a_challenger_is_better_where_its_episodes_say_so():
    some = [1.0, 2.0, 1.5, 1.2, 0.9, 1.1, 1.4, 0.8]
    assert st.above(some)
    assert not st.above(some, margin=1.0)
    assert not st.above(some[:7])
    # All alike: these have no interval, and are above it all the same.
    assert st.above([1.0] * 8)
    assert not st.above([1.0] * 7)
    assert not st.above([0.0] * 50)
    # Plus or minus one with the same probability: all plus one of three times in eight.
    assert not st.above([1.0, 1.0, 1.0])
