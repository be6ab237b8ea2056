"""Intervals of means: where there are any, what they are, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from drillyard.statistics import iqm, mean_interval, strata_interval, together
from drillyard.statistics.intervals import ends
from drillyard.statistics.measured import KINDS, measured


def test_symmetric_values_have_students_t():
    values = [1.0, 2.0, 2.5, 3.0, 4.0]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = mean_interval(values)
    # No skewness to remove: Hall's interval differs by the tiny value that stands for none.
    assert found == pytest.approx(expected, abs=1e-3)


def test_no_side_is_nearer_than_students_t_and_the_long_tail_is_further():
    values = [1.0, 1.1, 1.3, 1.6, 4.0]
    low, high = mean_interval(values) or (0, 0)
    left, right = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert low <= left
    assert high > right + 0.5


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [1.0, 2.0],  # too few
        [3.0] * 3,
        [0.1] * 7,  # nothing varies
        [0.0, 0.0, 1.0],
        [0.0, 1.0, 0.0, 1.0],  # of two kinds, and few
        [1.0, float("nan"), 2.0, 3.0],
    ],
)
def test_what_says_too_little_has_no_interval(values):
    assert mean_interval(values) is None


def test_five_values_may_be_of_two_kinds():
    low, high = mean_interval([0.0, 0.0, 1.0, 0.0, 1.0]) or (0, 0)
    assert low < 0.4 < high


def test_groups_that_are_sampled_apart_keep_their_differences_out_of_the_interval():
    low, high = strata_interval([[0.0, 0.1, 0.2], [100.0, 100.1, 100.2]]) or (0, 0)
    assert high - low < 0.3
    assert low < 50.1 < high
    assert strata_interval([[1.0, 1.0], [2.0, 2.0]]) is None
    assert strata_interval([[1.0, 2.0], [2.0]]) is None


def test_groups_that_vary_alike_have_the_pooled_students_t():
    a, b = [1.0, 2.0, 3.0, 4.0], [10.0, 11.0, 12.0, 13.0]
    wanted = stats.ttest_ind(a, b).confidence_interval()
    found = strata_interval([a, b], [1.0, -1.0])
    assert found == pytest.approx((wanted.low, wanted.high), abs=1e-3)


# -- how often they hold the truth ----------------------------------------------------------------
# The whole measurement is tests/benchmarks/coverage; this keeps what it found.

TRIES = 4_000


def share(n: int, kind: str, confidence: float = 0.95) -> float:
    rng = np.random.default_rng(n)
    data, truth = {
        "normal": (rng.normal(10, 2, (TRIES, n)), 10),
        "skewed": (rng.exponential(1, (TRIES, n)), 1),
        "two groups": (rng.normal(size=(TRIES, n)) + 10 * (rng.random((TRIES, n)) < 0.5), 5),
        "capped": (np.minimum(500, rng.normal(470, 50, (TRIES, n))), 463.81),
    }[kind]
    low, high = ends([data], confidence=confidence)
    shown = np.isfinite(low)
    return float(((low <= truth) & (truth <= high))[shown].mean())


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8, 10, 15, 20, 30, 50])
def test_an_interval_of_normal_values_holds_the_truth_as_often_as_it_says(n):
    assert 0.93 <= share(n, "normal") <= 0.98


@pytest.mark.parametrize(
    ("kind", "n"), [("skewed", 6), ("skewed", 10), ("two groups", 5), ("capped", 3)]
)
def test_other_values_are_covered_from_a_known_number_on(kind, n):
    assert share(n, kind) >= 0.93


def test_intervals_that_hold_at_once_do():
    rng = np.random.default_rng(0)
    low, high = ends([rng.normal(size=(TRIES, 8, 5))], confidence=together(8))
    assert 0.93 <= ((low <= 0) & (high >= 0)).all(axis=1).mean() <= 0.98
    # Each by itself does not: one of eight misses in more than a tenth of such pages.
    low, high = ends([rng.normal(size=(TRIES, 8, 5))])
    assert ((low <= 0) & (high >= 0)).all(axis=1).mean() < 0.9


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_pages_quote_what_was_measured(n):
    found = measured(n)
    assert list(found) == list(KINDS.values())
    assert found[KINDS["normal"]] == pytest.approx(share(n, "normal"), abs=0.015)
    assert found[KINDS["skewed"]] == pytest.approx(share(n, "skewed"), abs=0.015)
    assert found[KINDS["two groups"]] == pytest.approx(share(n, "two groups"), abs=0.02)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4], 2.5),
        ([0, 5, 5, 1000], 5.0),
        ([7], 7.0),
        ([1, 2, 30], 11.0),
        ([1, 2, 3, 4, 90], 3.0),
    ],
)
def test_iqm(values, expected):
    assert iqm(values) == pytest.approx(expected)
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25))
