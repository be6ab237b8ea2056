"""Compares two algorithms: the probability that one is better, and paired differences.

Sources of the formulas:

- Probability of improvement, P(X > Y) averaged over tasks, ties one half: the Mann-Whitney U
  statistic divided by the number of pairs; R. Agarwal et al. 2021, section 4.3.
- Its interval: R. G. Newcombe, "Confidence intervals for an effect size measure based on the
  Mann-Whitney statistic", 2006, method 5, with Student's t in place of the normal quantile. It is
  the set of all probabilities that the data do not contradict, so it never shrinks to a point,
  even if every run of the one beats every run of the other. For several tasks the mean is treated
  as the probability in each of them: if they differ, it varies less than that.
- Wilcoxon's signed-rank test of paired differences: F. Wilcoxon, "Individual comparisons by
  ranking methods", 1945.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from drillyard.statistics.intervals import MIN_VALUES, mean_interval, student_t
from drillyard.statistics.scores import Estimate
from drillyard.statistics.shares import Strata

Key = TypeVar("Key", bound=Hashable)
_HALVINGS = 50
MIN_PAIRS = 8
"""Minimum number of pairs for a decision."""


def probability_of_improvement(x: Strata, y: Strata, confidence: float = 0.95) -> Estimate:
    """The probability that a run of one is better than a run of the other, over all tasks.

    Args:
        x: Scores of the first: task -> run.
        y: Scores of the second on the same tasks, in the same order; the number of runs may
            differ.
        confidence: Level of the interval, 0 to 1.

    Raises:
        ValueError: The numbers of tasks differ, or a task has no run.
    """
    if len(x) != len(y) or not x or not all(len(task) for task in (*x, *y)):
        raise ValueError("both need at least one run of each task")
    one, other = ([np.asarray(task, dtype=np.float64) for task in side] for side in (x, y))
    value, low, high = improvement_ends(one, other, confidence)
    known = min(len(task) for task in (*x, *y)) >= MIN_VALUES
    return Estimate(float(value), float(low) if known else None, float(high) if known else None)


def improvement_ends(
    x: Sequence[np.ndarray], y: Sequence[np.ndarray], confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of improvement with the ends of its interval, for many data sets together.

    Args:
        x: One array for each task, whose last axis is the runs of the first.
        y: The same for the second.
        confidence: Level of the interval, 0 to 1.
    """
    each = [
        (np.sign(a[..., :, None] - b[..., None, :]).mean(axis=(-2, -1)) + 1) / 2
        for a, b in zip(x, y, strict=True)
    ]
    sizes = [(a.shape[-1], b.shape[-1]) for a, b in zip(x, y, strict=True)]
    value = np.asarray(np.mean(each, axis=0))
    degrees = max(1, sum(m + n - 2 for m, n in sizes))
    t = float(student_t((1 + confidence) / 2, degrees))
    return value, _furthest(value, 0.0, sizes, t), _furthest(value, 1.0, sizes, t)


def _furthest(
    estimate: np.ndarray, end: float, sizes: Sequence[tuple[int, int]], t: float
) -> np.ndarray:
    """The last probability between the estimate and an end that the data do not contradict."""
    inside, outside = np.array(estimate, dtype=np.float64), np.full_like(estimate, end)
    for _ in range(_HALVINGS):
        p = (inside + outside) / 2
        fits = np.abs(estimate - p) <= t * np.sqrt(_variance(p, sizes))
        inside, outside = np.where(fits, p, inside), np.where(fits, outside, p)
    return np.asarray(outside)


def _variance(p: np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Variance of the mean over tasks of the share of pairs that the first wins."""
    shape = (1 - p) / (2 - p) + p / (1 + p)
    parts = sum((1 + ((m + n) / 2 - 1) * shape) / (m * n) for m, n in sizes)
    return np.asarray(p * (1 - p) * parts / len(sizes) ** 2)


@dataclass(frozen=True, slots=True)
class Paired:
    """Paired differences, first minus second: on the same evaluation episodes, or the same seeds.

    The difference removes effects that both share (a hard start value, an easy one), so its
    interval is narrower than that of two separate means.
    """

    n: int
    difference: float
    """Mean of the differences."""
    low: float | None
    """Interval over the pairs; None for fewer than three, and if all are equal."""
    high: float | None
    wins: int
    """Number of pairs in which the first is better."""
    ties: int
    p: float
    """Two-sided p of Wilcoxon's signed-rank test; 1 if nothing differs."""


def paired(
    x: Mapping[Key, float], y: Mapping[Key, float], confidence: float = 0.95
) -> Paired | None:
    """Compare two on their common pairs; None if there are none.

    Args:
        x: Key of a pair (an episode's seed and options, a training seed) -> value of the first.
        y: The same for the second.
        confidence: Level of the interval, 0 to 1.
    """
    both = [key for key in x if key in y]
    differences = [x[key] - y[key] for key in both]
    if not differences:
        return None
    interval = mean_interval(differences, confidence)
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
    """True if paired differences show that the first is better than the second by a margin.

    Their interval must be above the margin, or the differences themselves if all are equal, which
    gives no interval. At least eight are needed: for skewed differences whose mean is the margin,
    the error was 5.7 % with six of them, and 4.9 % with eight
    (``python -m tests.benchmarks.coverage``).

    Args:
        differences: The first minus the second.
        margin: The required difference.
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
