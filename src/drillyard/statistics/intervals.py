"""Intervals of a mean: over seeds, over episodes, and over seeds of several tasks.

There is one rule. An interval needs three values (of each task) that are not all equal; below five
values they must be three different ones, because two different values look the same for every
distribution. It is Student's t, stretched on the side to which the values are skewed:

- Student's t, mean ± t s / √n, is exact for normally distributed values. W. S. Gosset,
  "The probable error of a mean", 1908. For several tasks: the sum of their variances, with the
  degrees of freedom of B. L. Welch, "The generalization of Student's problem when several
  different population variances are involved", 1947, which are less biased for few values than
  Satterthwaite's.
- That side is 1 + 2 |skewness| / √n times as long. N. J. Johnson, "Modified t tests and
  confidence intervals for asymmetrical populations", 1978, has the first term of this in theory;
  the factor was chosen by measuring: the smallest that holds the truth as often as P. Hall's
  transformation of 1992 for the distributions of the benchmark. A sample's skewness is at most √n,
  so the interval is at most twice as wide as Student's t. Hall's is a third of the time, for five
  normal values.

``python -m tests.benchmarks.coverage`` measures how often such an interval holds the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

METHOD = "Student's t, widened for skewness"
"""The name of the rule in the CSV files."""
MIN_VALUES = 3
"""Fewer values give no interval."""
MIN_ANY = 5
"""From this number on, two different values are enough, for example success and failure."""
_STRETCH = 2.0
"""With a larger factor an interval could be more than twice as wide as Student's t."""
Ends = tuple[float, float]
Numbers: TypeAlias = float | np.ndarray
"""A number, or one for each of many data sets."""


def student_t(probability: float, degrees: Numbers) -> np.ndarray:
    """Quantile of Student's t distribution.

    From ``scipy.special``: ``scipy.stats`` has the same number and takes 0.6 s to import.
    """
    from scipy.special import stdtrit

    return np.asarray(stdtrit(degrees, probability))


def together(among: int, confidence: float = 0.95) -> float:
    """Level of each of several intervals, so that all hold together at ``confidence``.

    Z. Šidák, "Rectangular confidence regions for the means of multivariate normal distributions",
    1967: exact for independent intervals, on the safe side for others.

    Args:
        among: Number of intervals.
        confidence: Level of all intervals together.
    """
    return float(confidence ** (1 / max(1, among)))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Ends | None:
    """The interval of a mean; None if the values are too few, or all equal.

    Args:
        values: Independent measurements.
        confidence: 0 to 1.
    """
    return strata_interval([values], confidence=confidence)


def strata_interval(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> Ends | None:
    """The interval of a weighted sum of the means of groups that were sampled separately.

    Args:
        strata: The values of each group.
        weights: Weight of each mean; equal by default.
        confidence: 0 to 1.
    """
    low, high = ends(strata, weights, confidence)
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def ends(
    strata: Sequence[ArrayLike],
    weights: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end, for many data sets together; NaN without an interval.

    Args:
        strata: One array for each stratum. Its last axis is the values, the other axes are data
            sets, which are the same in every stratum.
        weights: Weight of the mean of each stratum; equal by default.
        confidence: 0 to 1.
    """
    rows = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    shares = weights or [1 / len(rows)] * len(rows)
    least, most = min(r.shape[-1] for r in rows) - 1, sum(r.shape[-1] - 1 for r in rows)
    if any(row.shape[-1] < 2 for row in rows):
        nothing = np.full(rows[0].shape[:-1], np.nan)
        return nothing, nothing
    centre, variance, spread, third = (np.zeros(rows[0].shape[:-1]) for _ in range(4))
    for row, share in zip(rows, shares, strict=True):
        n = row.shape[-1]
        mean = row.mean(axis=-1)
        off = row - mean[..., None]
        part = share**2 * (off**2).sum(axis=-1) / (n * (n - 1))
        centre, variance = centre + share * mean, variance + part
        spread = spread + part**2 / (n + 1)
        if n > 2:
            third = third + share**3 * (off**3).sum(axis=-1) / (n * (n - 1) * (n - 2))
    with np.errstate(all="ignore"):
        degrees, skew = freedom(variance, spread, least, most), third / variance**1.5
        low, high = _around(centre, variance, degrees, skew, confidence)
    known = _sufficient(rows)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def freedom(
    variance: np.ndarray, spread: np.ndarray, least: int | np.ndarray, most: Numbers
) -> np.ndarray:
    """Degrees of freedom of a sum of variances that were estimated separately.

    Args:
        variance: The sum.
        spread: The sum of each variance's square over its own degrees of freedom plus two.
        least: The fewest degrees of freedom of any variance.
        most: The degrees of freedom of all together.
    """
    degrees: np.ndarray = np.clip(variance**2 / spread - 2, least, most)
    return degrees


def _around(
    centre: np.ndarray,
    variance: np.ndarray,
    degrees: np.ndarray,
    skew: np.ndarray,
    confidence: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Student's t interval, stretched on the side of the longer tail.

    Args:
        centre: The estimate.
        variance: Variance of the estimate.
        degrees: Degrees of freedom.
        skew: Skewness of the estimate: that of the values divided by √n.
        confidence: 0 to 1.
    """
    half = student_t((1 + confidence) / 2, degrees) * np.sqrt(variance)
    return centre - half * stretch(-skew), centre + half * stretch(skew)


def stretch(skew: np.ndarray) -> np.ndarray:
    """How many times as long as Student's t the side of an interval is.

    Args:
        skew: Skewness of the estimate towards that side: that of the values divided by √n.
    """
    return np.asarray(1 + _STRETCH * np.maximum(skew, 0.0))


def _sufficient(rows: list[np.ndarray]) -> np.ndarray:
    """Whether the values are enough for an interval."""
    if min(row.shape[-1] for row in rows) < MIN_VALUES:
        return np.zeros(rows[0].shape[:-1], dtype=bool)
    if len(rows) > 1:
        return np.asarray(np.any([np.ptp(row, axis=-1) > 0 for row in rows], axis=0))
    n = rows[0].shape[-1]
    kinds = 1 + (np.diff(np.sort(rows[0], axis=-1), axis=-1) > 0).sum(axis=-1)
    return np.asarray(kinds >= (3 if n < MIN_ANY else 2))
