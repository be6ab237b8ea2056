"""Two of a kind: how probable it is that one is better, and by how much on the same episodes.

Sources of the formulas:

- Probability of improvement, P(X > Y) averaged over tasks, ties one half: the Mann-Whitney U
  statistic divided by the number of pairs; R. Agarwal et al. 2021, section 4.3.
- Its interval: R. G. Newcombe, "Confidence intervals for an effect size measure based on the
  Mann-Whitney statistic", 2006, method 5, with Student's t in place of the normal quantile. It is
  the set of all probabilities that the data do not contradict, so it never shrinks to a point,
  not even where every run of the one beats every run of the other. Of several tasks the mean is
  taken as if it were the probability in each: where they differ it varies less than that.
- Wilcoxon's signed-rank test of paired differences: F. Wilcoxon, "Individual comparisons by
  ranking methods", 1945.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drillyard.statistics.intervals import MIN_VALUES, mean_interval, student_t
from drillyard.statistics.scores import Estimate
from drillyard.statistics.shares import Strata

_HALVINGS = 50
MIN_PAIRS = 8
"""Fewer pairs decide nothing."""


def probability_of_improvement(x: Strata, y: Strata, confidence: float = 0.95) -> Estimate:
    """How probable it is that a run of one is better than a run of the other, over all tasks.

    Args:
        x: Scores of the one: task -> run.
        y: Scores of the other on the same tasks, in the same order; it may have other runs.
        confidence: Of the interval, 0 to 1.

    Raises:
        ValueError: The tasks are not the same number, or one has no run.
    """
    if len(x) != len(y) or not x or not all(len(task) for task in (*x, *y)):
        raise ValueError("both need at least one run of each task")
    one, other = ([np.asarray(task, dtype=np.float64) for task in own] for own in (x, y))
    value, low, high = improvement_ends(one, other, confidence)
    known = min(len(task) for task in (*x, *y)) >= MIN_VALUES
    return Estimate(float(value), float(low) if known else None, float(high) if known else None)


def improvement_ends(
    x: Sequence[Any], y: Sequence[Any], confidence: float = 0.95
) -> tuple[Any, Any, Any]:
    """Probability of improvement with the ends of its interval, for many data sets at once.

    Args:
        x: An array for each task, whose last axis are the runs of the one.
        y: The same of the other.
        confidence: 0 to 1.
    """
    each = [
        (np.sign(a[..., :, None] - b[..., None, :]).mean(axis=(-2, -1)) + 1) / 2
        for a, b in zip(x, y, strict=True)
    ]
    sizes = [(a.shape[-1], b.shape[-1]) for a, b in zip(x, y, strict=True)]
    value = np.mean(each, axis=0)
    degrees = max(1, sum(m + n - 2 for m, n in sizes))
    t = float(student_t((1 + confidence) / 2, degrees))
    return value, _furthest(value, 0.0, sizes, t), _furthest(value, 1.0, sizes, t)


def _furthest(seen: Any, end: float, sizes: Sequence[tuple[int, int]], t: float) -> Any:
    """The last probability on the way from what was seen to an end that is not contradicted."""
    inside, outside = np.array(seen, dtype=np.float64), np.full_like(seen, end)
    for _ in range(_HALVINGS):
        p = (inside + outside) / 2
        fits = np.abs(seen - p) <= t * np.sqrt(_variance(p, sizes))
        inside, outside = np.where(fits, p, inside), np.where(fits, outside, p)
    return outside


def _variance(p: Any, sizes: Sequence[tuple[int, int]]) -> Any:
    """Variance of the mean over tasks of the share of pairs that the one wins."""
    shape = (1 - p) / (2 - p) + p / (1 + p)
    found = sum((1 + ((m + n) / 2 - 1) * shape) / (m * n) for m, n in sizes)
    return p * (1 - p) * found / len(sizes) ** 2


@dataclass(frozen=True, slots=True)
class Paired:
    """One minus the other, pair by pair: on the same evaluation episodes, or the same seeds.

    Chance that both share (a hard start value, an easy one) falls out of the difference, so its
    interval is narrower than that of two separate means.
    """

    n: int
    difference: float
    """Mean of the differences."""
    low: float | None
    """95 % interval over the pairs; None for fewer than three, and where all are equal."""
    high: float | None
    wins: int
    """Pairs in which the one is better."""
    ties: int
    p: float
    """Of Wilcoxon's signed-rank test, two-sided; 1 where nothing differs."""


def paired(x: Mapping[Hashable, float], y: Mapping[Hashable, float]) -> Paired | None:
    """Compare on what both have; None where they have nothing in common.

    Args:
        x: Key of a pair (an episode's seed and options, a training seed) -> value of the one.
        y: The same of the other.
    """
    both = [key for key in x if key in y]
    differences = [x[key] - y[key] for key in both]
    if not differences:
        return None
    interval = mean_interval(differences)
    return Paired(
        n=len(differences),
        difference=math.fsum(differences) / len(differences),
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        wins=sum(d > 0 for d in differences),
        ties=sum(d == 0 for d in differences),
        p=_wilcoxon(differences),
    )


def above(differences: Sequence[float], margin: float = 0.0) -> bool:
    """True where paired differences show that the one is better than the other by a margin.

    Their interval lies above it; where all are alike, and so have no interval, they do. At least
    eight are needed: skewed differences whose mean is the margin were measured above it in 5.7 %
    of cases for six of them, and in 4.9 % for eight (``python -m tests.benchmarks.coverage``).

    Args:
        differences: The one minus the other.
        margin: By how much it has to be better.
    """
    if len(differences) < MIN_PAIRS:
        return False
    interval = mean_interval(differences)
    if interval is not None:
        return interval[0] > margin
    return min(differences) > margin


def _wilcoxon(differences: list[float]) -> float:
    if not any(differences):
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue)
