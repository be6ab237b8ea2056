"""How sure a mean is: intervals over seeds, over episodes, and over seeds of several tasks.

There is one rule. An interval needs three values (of each task) that are not all equal; below five
values they must be three different ones, because two different values look the same whatever lies
behind them. It is the wider, on each side, of two intervals:

- Student's t, mean ± t s / √n, which is exact for normally distributed values. W. S. Gosset,
  "The probable error of a mean", 1908. For several tasks: the sum of their variances, with the
  degrees of freedom of B. L. Welch, "The generalization of Student's problem when several
  different population variances are involved", 1947, which are less biased for few values than
  Satterthwaite's.
- The same with the skewness of the values removed from t by a cubic transformation. P. Hall, "On
  the removal of skewness by transformation", Journal of the Royal Statistical Society B 54, 1992.
  On its own it is too narrow for three values and for heavy tails; Student's t is too narrow for
  skewed values.

``python -m tests.benchmarks.coverage`` measures how often such an interval holds the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

METHOD = "Student's t, widened for skewness"
"""The rule's name, which stands beside an interval in the CSV files."""
MIN_VALUES = 3
"""Fewer values give no interval."""
MIN_ANY = 5
"""So many values may be of two kinds only, say success and failure."""
Ends = tuple[float, float]


def student_t(probability: float, degrees: Any) -> Any:
    """Quantile of Student's t distribution.

    From ``scipy.special``: ``scipy.stats`` has the same number and takes 0.6 s to import.
    """
    from scipy.special import stdtrit

    return stdtrit(degrees, probability)


def together(among: int, confidence: float = 0.95) -> float:
    """Level of each of several intervals, so that all of them hold at once at ``confidence``.

    Z. Šidák, "Rectangular confidence regions for the means of multivariate normal distributions",
    1967: exact for independent intervals, on the safe side for others.

    Args:
        among: How many.
        confidence: Of all at once.
    """
    return float(confidence ** (1 / max(1, among)))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Ends | None:
    """The interval of a mean; None where so few, or such, values say too little.

    Args:
        values: Independent measurements.
        confidence: 0 to 1.
    """
    low, high = ends([values], confidence=confidence)
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def strata_interval(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> Ends | None:
    """The interval of a weighted sum of means of groups that were sampled apart.

    Args:
        strata: The values of each group.
        weights: Of each mean; default: all the same.
        confidence: 0 to 1.
    """
    low, high = ends(strata, weights, confidence)
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def ends(
    strata: Sequence[Any], weights: Sequence[float] | None = None, confidence: float = 0.95
) -> tuple[Any, Any]:
    """Lower and upper end, for many data sets at once; NaN where there is none.

    Args:
        strata: An array each, whose last axis are the values of the stratum; the axes before it
            are data sets, the same ones in every stratum.
        weights: Of each stratum's mean; default: all the same.
        confidence: 0 to 1.
    """
    rows = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    shares = weights or [1 / len(rows)] * len(rows)
    least, most = min(r.shape[-1] for r in rows) - 1, sum(r.shape[-1] - 1 for r in rows)
    centre, variance, spread, third = 0.0, 0.0, 0.0, 0.0
    if any(row.shape[-1] < 2 for row in rows):
        nothing = np.full(rows[0].shape[:-1], np.nan)
        return nothing, nothing
    for row, share in zip(rows, shares, strict=True):
        n = row.shape[-1]
        mean = row.mean(axis=-1)
        off = row - mean[..., None]
        own = share**2 * (off**2).sum(axis=-1) / (n * (n - 1))
        centre, variance, spread = centre + share * mean, variance + own, spread + own**2 / (n + 1)
        if n > 2:
            third = third + share**3 * (off**3).sum(axis=-1) / (n * (n - 1) * (n - 2))
    with np.errstate(all="ignore"):
        degrees, skew = freedom(variance, spread, least, most), third / variance**1.5
        low, high = _around(centre, variance, degrees, skew, confidence)
    known = _says_something(rows)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def freedom(variance: Any, spread: Any, least: Any, most: Any) -> Any:
    """Degrees of freedom of a sum of variances that were estimated apart.

    Args:
        variance: The sum.
        spread: Sum of each one's square over its own degrees plus two.
        least: The fewest of any.
        most: Of all together.
    """
    return np.clip(variance**2 / spread - 2, least, most)


def _around(
    centre: Any, variance: Any, degrees: Any, skew: Any, confidence: float
) -> tuple[Any, Any]:
    """The wider of Student's t and of the same with the skewness removed.

    Args:
        centre: The estimate.
        variance: Of the estimate.
        degrees: Of freedom.
        skew: Skewness of the estimate: that of the values divided by √n.
        confidence: 0 to 1.
    """
    t = student_t((1 + confidence) / 2, degrees)
    error = np.sqrt(variance)
    # The cube root's limit for no skewness is t itself; so small a value stands for none.
    a = np.where(np.abs(skew) < 1e-6, 1e-6, skew)

    def removed(q: Any) -> Any:
        return 3 / a * (np.cbrt(1 + a * (q - a / 6)) - 1)

    low = np.fmin(centre - t * error, centre - error * removed(t))
    high = np.fmax(centre + t * error, centre - error * removed(-t))
    return low, high


def _says_something(rows: list[np.ndarray]) -> Any:
    if min(row.shape[-1] for row in rows) < MIN_VALUES:
        return np.zeros(rows[0].shape[:-1], dtype=bool)
    if len(rows) > 1:
        return np.any([np.ptp(row, axis=-1) > 0 for row in rows], axis=0)
    n = rows[0].shape[-1]
    kinds = 1 + (np.diff(np.sort(rows[0], axis=-1), axis=-1) > 0).sum(axis=-1)
    return kinds >= (3 if n < MIN_ANY else 2)
