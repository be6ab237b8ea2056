"""Intervals: against scipy, against coverage, and honest about what they are over."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from drillyard.statistics import iqm, over_seeds, stratified_bootstrap, t_interval


def test_t_interval_is_scipys() -> None:
    values = [1.0, 4.0, 2.5, 7.0]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected)
    assert t_interval([1.0]) is None
    assert t_interval([2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(("n", "method"), [(3, "seeds-t"), (4, "seeds-t"), (5, "seeds-bootstrap")])
def test_the_number_of_seeds_decides_the_method(n: int, method: str) -> None:
    interval = over_seeds({seed: [float(seed), seed + 1.0] for seed in range(n)})
    assert interval.method == method
    assert f"over {n} seeds" in interval.label
    assert interval.values == tuple(s + 0.5 for s in range(n))
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.mean < interval.high


def test_fewer_than_three_seeds_give_range_and_an_interval_that_says_episodes() -> None:
    interval = over_seeds({1: [1.0, 2.0, 3.0], 2: [5.0, 6.0, 7.0]})
    assert interval.method == "episodes-t"
    assert "episodes" in interval.label
    assert "not over seeds" in interval.label
    assert (interval.minimum, interval.maximum) == (2.0, 6.0)
    assert (interval.low, interval.high) == pytest.approx(t_interval([1, 2, 3, 5, 6, 7]))


def test_one_episode_has_no_interval() -> None:
    interval = over_seeds({1: [3.0]})
    assert (interval.low, interval.high, interval.method) == (None, None, "none")
    assert interval.to_json()["values"] == [3.0]


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        over_seeds({})
    with pytest.raises(ValueError, match="at least one"):
        over_seeds({1: []})


def test_bootstrap_is_repeatable_and_covers() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(10, 2, 20)
    assert stratified_bootstrap([data]) == stratified_bootstrap([data])
    hits = 0
    for _ in range(300):
        low, high = stratified_bootstrap([rng.normal(10, 2, 20)], resamples=800)
        hits += low <= 10 <= high
    assert 0.88 <= hits / 300 <= 0.98


def test_strata_keep_their_differences_out_of_the_interval() -> None:
    low, high = stratified_bootstrap([[0.0, 0.1, 0.2], [100.0, 100.1, 100.2]])
    assert high - low < 0.3
    assert low < 50.1 < high


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
def test_iqm(values: list[float], expected: float) -> None:
    assert iqm(values) == pytest.approx(expected)
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25))
